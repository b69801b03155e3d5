"""Searches of other makes than GridSearchCV."""

import numpy as np
import optuna
import pytest
from sklearn.datasets import load_wine
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import NeuralNetClassifier, make_callback

X, Y = load_wine(return_X_y=True)
FOLDS = StratifiedKFold(3)

optuna.logging.set_verbosity(optuna.logging.WARNING)


def pipe(**params):
    said = {"max_epochs": 5, "random_state": 0, **params}
    return make_pipeline(StandardScaler(), NeuralNetClassifier(**said))


def test_optuna_finds_the_best_of_the_parameters_that_it_tries():
    def suggested(trial):
        return {
            "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
            "module__hidden_layer_sizes": (trial.suggest_int("width", 4, 32),),
        }

    def objective(trial):
        return cross_val_score(pipe(**suggested(trial)), X, Y, cv=FOLDS).mean()

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5)
    )
    study.optimize(objective, n_trials=10)
    values = [trial.value for trial in study.trials]
    assert study.best_value == max(values) > 0.9
    assert min(values) < 0.8  # there was something to find
    again = pipe(**suggested(optuna.trial.FixedTrial(study.best_params)))
    assert cross_val_score(again, X, Y, cv=FOLDS).mean() == study.best_value


def test_optuna_prunes_a_fit_in_the_middle():
    rates = [0.05, 1e-6]
    n_epochs = {}

    def objective(trial):
        def report(self, ctx):
            n_epochs[trial.number] = ctx.epoch
            trial.report(ctx.history[-1]["valid_loss"], ctx.epoch - 1)  # its steps count from 0
            if trial.should_prune():
                raise optuna.TrialPruned

        callback = make_callback("Report", on_epoch_end=report)()
        est = NeuralNetClassifier(
            max_epochs=12, lr=rates[trial.number], validation_fraction=0.3, random_state=0
        )
        est.fit(StandardScaler().fit_transform(X), Y, callbacks=[callback])
        return est.history_["valid_loss"].iloc[-1]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=3)
    study = optuna.create_study(pruner=pruner)
    study.optimize(objective, n_trials=2)
    complete, pruned = study.trials
    assert complete.state == optuna.trial.TrialState.COMPLETE
    assert list(complete.intermediate_values) == list(range(12))
    assert complete.value == complete.intermediate_values[11]
    assert pruned.state == optuna.trial.TrialState.PRUNED
    assert n_epochs == {0: 12, 1: 4}


@pytest.mark.parametrize("resource", ["n_samples", "max_epochs"])
def test_successive_halving_gives_the_better_candidates_more(resource):
    name = resource if resource == "n_samples" else "neuralnetclassifier__max_epochs"
    grid = {"neuralnetclassifier__lr": [1e-6, 0.0001, 0.01, 0.02]}
    search = HalvingGridSearchCV(
        pipe(max_epochs=8),
        grid,
        cv=FOLDS,
        factor=2,
        resource=name,
        min_resources=40 if resource == "n_samples" else 3,
        max_resources=160 if resource == "n_samples" else 12,
        random_state=0,
    ).fit(X, Y)
    assert search.n_candidates_ == [4, 2, 1]
    assert search.n_resources_ == ([40, 80, 160] if resource == "n_samples" else [3, 6, 12])
    assert search.best_params_["neuralnetclassifier__lr"] >= 0.01
    if resource == "max_epochs":
        assert search.best_estimator_[-1].n_iter_ == 12
        best = cross_val_score(pipe(max_epochs=12, lr=search.best_params_[next(iter(grid))]), X, Y)
        assert np.isclose(search.best_score_, best.mean(), atol=0.05)
