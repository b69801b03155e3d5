"""Frames as a user brings them, through whole fits and predictions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from skorchlike import NeuralNetClassifier, NeuralNetRegressor

N = 240
RNG = np.random.default_rng(0)


def make_frame(n=N, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "income": rng.lognormal(10, 1, n),
        "age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(18, 90, n)),
        "member": rng.random(n) < 0.5,
        "city": rng.choice(["Rome", "Oslo", "Lima", None], n),
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
    })  # fmt: skip
    return frame


FRAME = make_frame()
Y = np.where((FRAME["city"] == "Oslo") | (FRAME["income"] > 40_000), "yes", "no")
PARAMS = {"max_epochs": 30, "lr": 0.01, "random_state": 0}


def fitted(frame=FRAME, y=Y, **params):
    return NeuralNetClassifier(**{**PARAMS, **params}).fit(frame, y)


def test_a_mixed_frame_is_learned_without_any_preprocessing():
    assert cross_val_score(NeuralNetClassifier(**PARAMS), FRAME, Y, cv=3).mean() > 0.85


def test_numbers_to_predict_are_learned_of_a_mixed_frame():
    y = FRAME["member"] * 2 + (FRAME["city"] == "Rome")
    net = NeuralNetRegressor(**PARAMS)
    assert cross_val_score(net, FRAME, y, cv=3).mean() > 0.8


@pytest.mark.parametrize("module", ["mlp", "resnet", "ft_transformer", "tabm", "realmlp"])
def test_the_order_of_the_columns_does_not_matter(module):
    net = fitted(module=module, max_epochs=2)
    other = FRAME[["since", "city", "income", "member", "age"]]
    np.testing.assert_array_equal(net.predict_proba(other), net.predict_proba(FRAME))


@pytest.mark.parametrize("module", ["mlp", "resnet", "ft_transformer", "tabm", "realmlp"])
def test_categories_unseen_in_training_are_all_treated_alike(module):
    net = fitted(module=module, max_epochs=2)
    one, other = (FRAME.assign(city=name) for name in ("Paris", "Cairo"))
    np.testing.assert_array_equal(net.predict_proba(one), net.predict_proba(other))
    assert np.isfinite(net.predict_proba(one)).all()


@pytest.mark.parametrize("module", ["mlp", "resnet", "ft_transformer", "tabm", "realmlp"])
@pytest.mark.parametrize("transform", ["standard", "robust"])
def test_columns_without_any_information_change_nothing_when_they_get_some(module, transform):
    """All missing, or of one value in training: what comes later meets untrained weights."""
    empty = FRAME.assign(empty=np.nan, typeless=None, constant=7.5, zero=0)
    net = fitted(empty, module=module, max_epochs=2, numeric_transform=transform)
    expected = net.predict_proba(empty)
    assert np.isfinite(expected).all()
    later = empty.assign(empty=1e6, constant=-3.0, zero=np.arange(N))
    np.testing.assert_array_equal(net.predict_proba(later), expected)


def test_a_column_of_one_category_is_no_obstacle():
    frame = FRAME.assign(same="x", none=pd.Series([None] * N, dtype="str"))
    assert np.isfinite(fitted(frame, max_epochs=2).predict_proba(frame)).all()


def test_holes_that_training_did_not_have_are_filled_by_the_mean():
    net = fitted()
    mean = FRAME["income"].mean()
    holed, filled = FRAME.copy(), FRAME.copy()
    holed.loc[::3, "income"], filled.loc[::3, "income"] = np.nan, mean
    np.testing.assert_allclose(net.predict_proba(holed), net.predict_proba(filled), rtol=1e-9)


def test_nothing_is_learned_of_the_rows_held_out():
    """Means and categories of a fit with validation are those of a fit of the training rows."""
    net = fitted(validation_fraction=0.5, max_epochs=1)
    only_there = FRAME.assign(city=[f"city {i}" for i in range(N)])
    split = fitted(only_there, validation_fraction=0.5, max_epochs=1)
    assert split.model_.inputs_.cat_cardinalities == [1 + N // 2]
    trained_on = set(split.model_.inputs_.schema.categories[0])
    rows = [i for i in range(N) if f"city {i}" in trained_on]
    np.testing.assert_allclose(
        net.model_.preparation_.center[0], FRAME["income"].iloc[rows].mean(), rtol=1e-12
    )


def test_weights_weigh_what_is_learned_of_the_numbers():
    counts = RNG.integers(0, 3, N)
    net = NeuralNetClassifier(**{**PARAMS, "max_epochs": 1, "batch_size": -1})
    weighted = net.fit(FRAME, Y, sample_weight=counts).model_.preparation_.state_dict()
    rows = np.repeat(np.arange(N), counts)
    repeated = net.fit(FRAME.iloc[rows], Y[rows]).model_.preparation_.state_dict()
    for name, tensor in weighted.items():
        np.testing.assert_allclose(tensor, repeated[name], rtol=1e-9)


def test_a_fold_without_a_category_predicts_rows_that_have_it():
    frame = FRAME.assign(city=np.where(np.arange(N) == 5, "Atlantis", FRAME["city"]))
    found = cross_val_predict(NeuralNetClassifier(**PARAMS), frame, Y, cv=3)
    assert set(found) == {"yes", "no"}


def test_a_frame_passes_through_a_pipeline_and_a_fit_that_goes_on():
    pipe = make_pipeline("passthrough", NeuralNetClassifier(**PARAMS, warm_start=True))
    first = pipe.fit(FRAME, Y)[-1].n_iter_
    assert pipe.fit(FRAME[FRAME.columns[::-1]], Y)[-1].n_iter_ == 2 * first


def test_a_later_part_may_have_new_categories_and_holes():
    net = NeuralNetClassifier(random_state=0)
    net.partial_fit(FRAME[:120], Y[:120])
    later = FRAME[120:].assign(city="Paris", income=np.nan)
    net.partial_fit(later, Y[120:])
    assert net.n_iter_ == 2
    assert np.isfinite(net.predict_proba(FRAME)).all()


@pytest.mark.slow
def test_a_hundred_thousand_rows_of_fifty_mixed_columns():
    n, rng = 100_000, np.random.default_rng(0)
    columns = {}
    for i in range(10):
        columns[f"float {i}"] = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
        columns[f"int {i}"] = rng.integers(0, 1000, n)
        columns[f"flag {i}"] = rng.random(n) < 0.3
        columns[f"word {i}"] = rng.choice([f"word {j}" for j in range(5 * (i + 1))], n)
        columns[f"level {i}"] = pd.Categorical(rng.choice(["low", "mid", "high"], n))
    frame = pd.DataFrame(columns)
    y = (frame["float 0"].fillna(1) + (frame["word 3"] == "word 2") * 3 + frame["flag 1"]) > 1
    net = NeuralNetClassifier(
        max_epochs=2, batch_size=512, dtype="float32", validation_fraction=0.1, random_state=0
    ).fit(frame, y)
    assert net.history_["valid_accuracy"].iloc[-1] > 0.9
    rows = rng.permutation(n)[:2000]
    expected = net.predict_proba(frame)
    np.testing.assert_allclose(
        net.predict_proba(frame.iloc[rows][frame.columns[::-1]]), expected[rows], atol=1e-6
    )
    net.set_params(predict_batch_size=77)
    np.testing.assert_allclose(net.predict_proba(frame.iloc[:2000]), expected[:2000], atol=1e-6)
