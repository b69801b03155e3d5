"""Recipes are ordinary parameters, which train on all that an estimator takes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_friedman1, make_moons
from sklearn.model_selection import GridSearchCV

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor
from skorchlike.recipes import RECIPES, recipe

NAMES = sorted(RECIPES)
X, LABELS = make_moons(60, noise=0.1, random_state=0)
NUMBERS = X[:, 0] - X[:, 1]
ESTIMATORS = {
    "classification": (NeuralNetClassifier, LABELS),
    "regression": (NeuralNetRegressor, NUMBERS),
}


def mixed_frame(n=60):
    rng = np.random.default_rng(0)
    number = rng.normal(size=n)
    number[:5] = np.nan
    colour = rng.choice(["red", "green", "blue"], n)
    town = rng.choice([f"town {k}" for k in range(15)], n)
    return pd.DataFrame({"number": number, "colour": colour, "town": town})


@pytest.mark.parametrize("task", ESTIMATORS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "inputs",
    [X, mixed_frame(), mixed_frame()[["colour", "town"]], mixed_frame()[["colour"]]],
    ids=["numbers", "mixed", "categories", "one column"],
)
def test_a_recipe_trains_on_numbers_on_categories_and_on_both(name, task, inputs):
    cls, y = ESTIMATORS[task]
    net = cls(**recipe(name, task, max_epochs=2), random_state=0).fit(inputs, y)
    assert net.predict(inputs).shape == y.shape
    assert type(net.model_.module_).__name__.lower() == name.replace("_", "")
    assert {p.dtype for p in net.model_.module_.parameters()} == {torch.float32}


@pytest.mark.parametrize("task", ESTIMATORS)
@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_are_said_cloned_and_set_like_any_others(name, task):
    cls, y = ESTIMATORS[task]
    net = clone(cls(**recipe(name, task), random_state=0))
    said = net.get_params()
    for key, value in recipe(name, task).items():
        same = said[key] is value or said[key] == value or key == "callbacks"
        assert same, key
    net.set_params(max_epochs=1, batch_size=16, callbacks=None).fit(X, y)
    assert net.n_iter_ == 1


@pytest.mark.parametrize("name", NAMES)
def test_two_recipes_share_nothing_that_can_be_changed(name):
    one, other = recipe(name), recipe(name)
    for key in one:
        if isinstance(one[key], (dict, list, Callback)):
            assert one[key] is not other[key]
    for callback in one["callbacks"]:
        assert one["callbacks"][callback] is not other["callbacks"][callback]


@pytest.mark.parametrize(("name", "least"), [(name, 0.95) for name in NAMES])
def test_it_learns_what_is_not_linear(name, least):
    inputs, y = make_moons(400, noise=0.1, random_state=1)
    net = NeuralNetClassifier(**recipe(name, max_epochs=20), random_state=0)
    assert net.fit(inputs[:300], y[:300]).score(inputs[300:], y[300:]) >= least


@pytest.mark.parametrize("name", NAMES)
def test_a_search_can_go_over_what_a_recipe_says(name):
    net = NeuralNetClassifier(**recipe(name, max_epochs=1), random_state=0)
    grid = {"batch_size": [16, 32], "optimizer__weight_decay": [0.0, 0.1]}
    search = GridSearchCV(net, grid, cv=2).fit(X, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("shape", ["linear", "flat_cos"])
def test_so_it_can_over_a_schedule(shape):
    net = NeuralNetClassifier(**recipe("realmlp", max_epochs=1), random_state=0)
    net.set_params(callbacks__lr_schedule__shape=shape).fit(X, LABELS)
    assert net.get_params()["callbacks__lr_schedule__shape"] == shape


def test_what_is_given_replaces_what_the_recipe_says():
    made = recipe("tabm", max_epochs=3, module__n_members=2, verbose=1)
    assert (made["max_epochs"], made["module__n_members"], made["verbose"]) == (3, 2, 1)
    rest = {key for key in made if key not in ("max_epochs", "module__n_members", "verbose")}
    assert all(made[key] == recipe("tabm")[key] for key in rest if key != "callbacks")


def test_a_whole_component_drops_what_was_said_beneath_it():
    made = recipe("realmlp", criterion="multi_margin")
    assert "criterion__label_smoothing" not in made
    assert not any(key.startswith("optimizer__") for key in recipe("realmlp", optimizer="sgd"))
    net = NeuralNetClassifier(**recipe("realmlp", criterion="multi_margin", max_epochs=1))
    net.fit(X, LABELS)


def test_rates_of_groups_keep_their_ratio_to_a_learning_rate_that_is_given():
    groups = recipe("realmlp", lr=0.5)["optimizer__param_groups"]
    usual = recipe("realmlp")
    for pattern, options in usual["optimizer__param_groups"].items():
        assert groups[pattern]["lr"] / 0.5 == pytest.approx(options["lr"] / usual["lr"])


def test_realmlp_has_the_rates_and_decays_of_the_authors_code():
    """The factors in pytabkit 1.7.3: of lr; and of the decay, lr's factor once more."""
    seen = {}

    class Watch(Callback):
        order = -100

        def on_begin(self, ctx):
            groups = {id(p): g for g in ctx.optimizer.param_groups for p in g["params"]}
            for name, p in ctx.module.named_parameters():
                group = groups[id(p)]
                seen[name] = (group["lr"], group["weight_decay"], group["betas"])

    inputs = mixed_frame()
    net = NeuralNetClassifier(**recipe("realmlp", max_epochs=1), random_state=0)
    net.fit(inputs, LABELS, callbacks=[Watch()])
    factors = {"numeric_embedding.": 0.1, "scale.": 6, "activation.": 0.1}
    for name, (lr, decay, betas) in seen.items():
        factor = next((f for part, f in factors.items() if part in name), 1)
        if name.endswith(".bias"):
            assert (lr, decay) == (pytest.approx(0.004), 0.0), name
        else:
            assert lr == pytest.approx(0.04 * factor), name
            assert decay == pytest.approx(0.02 * factor), name
        assert betas == (0.9, 0.95)
    assert {name.split(".")[0] for name in seen} >= {"numeric_embedding", "scale", "categories"}


def test_regression_recipes_do_not_depend_on_the_unit_of_the_target():
    inputs, y = make_friedman1(200, random_state=0)
    for name in NAMES:
        net = NeuralNetRegressor(**recipe(name, "regression", max_epochs=3), random_state=0)
        small, large = (clone(net).fit(inputs, y * s + s).predict(inputs) for s in (1, 1e4))
        np.testing.assert_allclose(large, 1e4 * small, rtol=1e-2)


@pytest.mark.parametrize(
    ("args", "message"),
    [(("realmpl",), "Did you mean 'realmlp'"), (("tabm", "labels"), "Got 'labels'")],
)
def test_an_unknown_recipe_or_task_is_named(args, message):
    with pytest.raises(ValueError, match=message):
        recipe(*args)
