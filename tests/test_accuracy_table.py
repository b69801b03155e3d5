"""The accuracy table: equal folds for all, honest statistics, results that are kept."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import RepeatedStratifiedKFold, cross_validate

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CONTENDERS = ("HistGB", "sklearn MLP", "skorch MLP", "mlp", "resnet", "tabm", "realmlp")


@pytest.fixture(autouse=True)
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/accuracy.py` does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def small(bench):
    """A small set of each task, in two folds."""
    data = bench("accuracy_data")
    names = {"wine": (None, 60), "mixed_yes_no": (None, 120), "mixed_smooth": (None, 120)}
    sets = []
    for full in data.by_name(list(names)):

        def load(full=full):
            X, y = full.load()
            rows = np.random.default_rng(0).permutation(len(y))[: names[full.name][1]]
            return (X.iloc[rows] if hasattr(X, "iloc") else X[rows]), y[rows]

        sets.append(replace(full, load=load, repeats=1, n_folds=2))
    return sets


def dummy(task, X, seed):
    return DummyClassifier() if task == "classification" else DummyRegressor()


def test_names_of_data_sets_are_different_and_they_are_what_they_say(bench):
    sets = bench("accuracy_data").DATA_SETS
    assert len({data.name for data in sets}) == len(sets) >= 16
    for data in sets:
        X, y = data.load()
        assert len(X) == len(y)
        assert isinstance(X, pd.DataFrame) == data.name.startswith("mixed")
        labels = np.unique(y)
        assert (len(labels) <= 20) == (data.task == "classification")


def test_a_mixed_set_is_the_same_each_time_and_has_holes_and_levels(bench):
    X, y = bench("accuracy_data").by_name(["mixed_levels_and_holes"])[0].load()
    again, same = bench("accuracy_data").by_name(["mixed_levels_and_holes"])[0].load()
    pd.testing.assert_frame_equal(X, again)
    np.testing.assert_array_equal(y, same)
    assert X.isna().any().all()
    assert {str(dtype) for dtype in X.dtypes} == {"float64", "category", "str"}
    assert X["category_0"].nunique() == 40


def test_the_scores_are_those_of_a_cross_validation_on_the_same_folds(bench):
    accuracy, data = bench("accuracy"), bench("accuracy_data").by_name(["wine"])[0]
    X, y = data.load()
    cache = accuracy.Cache(None)
    make = bench("accuracy_contenders").ALL["HistGB"]
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
    accuracy.run([data], {"dummy": dummy}, cache, log=lambda line: None)
    expected = cross_validate(
        dummy("classification", X, 0), X, y, cv=folds, scoring=["accuracy", "neg_log_loss"]
    )
    got = cache.results["dummy"]["wine"]["folds"]
    for number in range(15):
        assert got[str(number)]["score"] == expected["test_accuracy"][number]
        assert got[str(number)]["log_loss"] == pytest.approx(-expected["test_neg_log_loss"][number])
    rows = accuracy.splits(data, X, y)[0]
    one = accuracy.run_fold(make, data, X, y, rows, seed=0)
    fitted = make("classification", X, 0).fit(X[rows[0]], y[rows[0]])
    assert one["score"] == accuracy_score(y[rows[1]], fitted.predict(X[rows[1]]))
    assert one["log_loss"] == pytest.approx(log_loss(y[rows[1]], fitted.predict_proba(X[rows[1]])))


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns_from_every_kind_of_data(bench, small, name, monkeypatch):
    contenders, accuracy = bench("accuracy_contenders"), bench("accuracy")
    if name in contenders.missing():
        assert name in ("skorch MLP", "pytabkit RealMLP")
        return
    for data in small:
        X, y = data.load()
        train, test = accuracy.splits(data, X, y)[0]
        result = accuracy.run_fold(contenders.ALL[name], data, X, y, (train, test), seed=0)
        assert np.isfinite(result["score"])
        assert result["wall"] > 0
        if data.task == "regression":
            mean = np.full(len(test), y[train].mean())
            assert result["score"] > r2_score(y[test], mean) - 0.5


def test_results_are_kept_and_made_again_only_for_other_parameters(bench, small, tmp_path):
    accuracy, lines = bench("accuracy"), []
    path = tmp_path / "results.json"
    for _ in range(2):
        accuracy.run(small[:1], {"dummy": dummy}, accuracy.Cache(path), log=lines.append)
    assert len(lines) == 2
    assert set(json.loads(path.read_text())["dummy"]["wine"]["folds"]) == {"0", "1"}

    def other(task, X, seed):
        return DummyClassifier(strategy="uniform", random_state=seed)

    accuracy.run(small[:1], {"dummy": other}, accuracy.Cache(path), log=lines.append)
    assert len(lines) == 4


def results_of(**scores):
    """Results of contenders on a set "s" of as many folds as there are scores."""
    return {
        name.replace("_", " "): {
            "s": {"folds": {str(i): {"score": v, "cpu": 2.0} for i, v in enumerate(values)}}
        }
        for name, values in scores.items()
    }


DATA = SimpleNamespace(name="s", n_folds=5, repeats=1, task="regression")


def test_differences_are_paired_and_have_the_standard_error_of_the_mean(bench):
    table = bench("accuracy_table")
    one, other = np.random.default_rng(0).normal(size=(2, 5))
    results = table.Results(results_of(one=one, other=other))
    mean, error = results.difference("one", "other", DATA)
    assert mean == pytest.approx((one - other).mean())
    assert error == pytest.approx(stats.sem(one - other))


@pytest.mark.parametrize(
    ("shift", "level"), [(0.0, True), (0.1, True), (-0.01, True), (-0.05, False)]
)
def test_level_is_within_one_standard_error_or_better(bench, shift, level):
    table = bench("accuracy_table")
    noise = 0.03 * np.array([-1, 1, -1, 1, 0])  # standard error 0.0134
    base = np.linspace(0.5, 0.9, 5)
    results = table.Results(results_of(one=base + noise + shift, other=base))
    assert results.is_level("one", "other", DATA) is level


def test_a_set_with_missing_folds_is_left_blank(bench):
    table = bench("accuracy_table")
    results = table.Results(results_of(one=[0.5] * 4, other=[0.5] * 5))
    assert results.values("one", DATA, "score") is None
    assert results.difference("one", "other", DATA) is None
    assert results.best(["one", "other"], DATA) == "other"


def test_the_report_has_every_set_and_counts_the_verdicts(bench):
    table = bench("accuracy_table")
    scores = {"HistGB": [0.7] * 5, "tabm": [0.8] * 5, "realmlp": [0.6] * 5}
    results = results_of(**scores, pytabkit_RealMLP=[0.75] * 5)
    contenders = SimpleNamespace(
        ALL=dict.fromkeys(["HistGB", "pytabkit RealMLP", "tabm", "realmlp"]),
        OURS=("tabm", "realmlp"),
    )
    report = table.report(results, [DATA], contenders)
    assert "| s | 0.700 ± 0.000 | 0.750 ± 0.000 | **0.800 ± 0.000** | 0.600 ± 0.000 |" in report
    assert "| best recipe | 1 of 1 | 1 of 1 |  |  | 1 of 1 |" in report
    assert "| recipe realmlp | 0 of 1 | 0 of 1 |  |  | 0 of 1 |" in report
    assert "| s | tabm | ≥ +0.1000 ± 0.0000 | ≥ +0.0500 ± 0.0000 |" in report


def test_tables_go_between_the_marks_of_a_page(bench):
    table = bench("accuracy_table")
    page = "head\n\n{}\n\nold\n\n{}\n\nfoot\n".format(*table.MARKS)
    changed = table.put_between_marks(page, "new")
    assert changed == page.replace("old", "new")
    assert table.put_between_marks(changed, "new") == changed
    with pytest.raises(ValueError, match="no lines"):
        table.put_between_marks("head", "new")


def test_the_quick_run_prints_the_tables_and_keeps_nothing(bench, monkeypatch, capsys):
    accuracy = bench("accuracy")
    monkeypatch.setattr("sys.argv", ["accuracy.py", "--quick", "--only", "HistGB", "mlp"])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    before = sorted(BENCHMARKS.glob("*.json"))
    accuracy.main()
    assert sorted(BENCHMARKS.glob("*.json")) == before
    printed = capsys.readouterr().out
    assert "| wine |" in printed
    assert "| moons |" in printed
    assert "within one standard error" in printed
