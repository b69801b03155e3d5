"""Tables go through other libraries' transformers and samplers to the net."""

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, make_classification
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skrub import TableVectorizer, tabular_pipeline

from skorchlike import NeuralNetClassifier, NeuralNetRegressor


def net(**params):
    return NeuralNetClassifier(**{"max_epochs": 10, "lr": 0.01, "random_state": 0, **params})


@pytest.fixture(scope="module")
def table():
    """A frame with holes, strings, categories, dates and booleans, and labels that it tells."""
    rng = np.random.default_rng(0)
    n = 200
    city = rng.choice(["Bonn", "Lyon", "Porto"], n)
    size = rng.normal(size=n)
    y = np.where(size + 2 * (city == "Lyon") > 0.7, "yes", "no")
    X = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, size),
            "city": city,
            "kind": pd.Categorical(rng.choice(["a", "b"], n)),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "flag": rng.random(n) < 0.5,
        }
    )
    return X, y


# --------------------------------------------------------------------------------- skrub


def test_skrub_vectorizes_a_table_for_the_net(table):
    X, y = table
    steps = (TableVectorizer(), SimpleImputer(), StandardScaler())
    pipe = make_pipeline(*steps, net()).fit(X, y)
    by_hand = make_pipeline(TableVectorizer(), SimpleImputer(), StandardScaler()).fit_transform(X)
    expected = net().fit(by_hand, y)
    assert np.array_equal(pipe.predict_proba(X), expected.predict_proba(by_hand))
    assert pipe.score(X, y) > 0.9
    assert list(pipe.classes_) == ["no", "yes"]


def test_skrub_makes_a_pipeline_around_the_net(table):
    X, y = table
    folds = StratifiedKFold(3, shuffle=True, random_state=0)

    def accuracy(estimator):
        return cross_val_score(tabular_pipeline(estimator), X, y, cv=folds).mean()

    assert accuracy(net(max_epochs=40)) > accuracy(LogisticRegression()) - 0.05
    pipe = tabular_pipeline(net())
    assert isinstance(pipe[0], TableVectorizer)
    assert isinstance(pipe[-1], NeuralNetClassifier)


# -------------------------------------------------------------------------- scikit-learn


def column_transformer(**one_hot):
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["size"]),
        (OneHotEncoder(**one_hot), ["city", "kind"]),
        ("passthrough", ["flag"]),
    )


def test_a_column_transformer_feeds_the_net(table):
    X, y = table
    pipe = make_pipeline(column_transformer(sparse_output=False), net()).fit(X, y)
    size = X["size"].fillna(X["size"].mean())
    by_hand = np.column_stack(
        [
            (size - size.mean()) / size.std(ddof=0),
            *(X["city"] == name for name in ("Bonn", "Lyon", "Porto")),
            *(X["kind"] == name for name in ("a", "b")),
            X["flag"],
        ]
    ).astype(float)
    expected = net().fit(by_hand, y)
    assert pipe.score(X, y) > 0.9
    np.testing.assert_allclose(
        pipe.predict_proba(X), expected.predict_proba(by_hand), rtol=0, atol=1e-9
    )


def test_frames_from_set_output_give_the_net_names_and_the_same_numbers(table):
    X, y = table
    arrays = make_pipeline(column_transformer(sparse_output=False), net()).fit(X, y)
    frames = make_pipeline(column_transformer(sparse_output=False), net())
    frames.set_output(transform="pandas").fit(X, y)
    assert np.array_equal(frames.predict_proba(X), arrays.predict_proba(X))
    assert list(frames[-1].feature_names_in_) == list(frames[0].get_feature_names_out())


def test_sparse_one_hot_columns_train_as_dense_ones_do(table):
    X, y = table
    sparse, dense = (
        make_pipeline(OneHotEncoder(sparse_output=is_sparse), net(numeric_transform=None))
        for is_sparse in (True, False)
    )
    X = X[["city", "kind", "flag"]]
    expected = dense.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(sparse.fit(X, y).predict_proba(X), expected, rtol=0, atol=1e-12)


# ----------------------------------------------------------------------- polars, pyarrow


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_a_frame_of_another_library_is_the_frame_of_pandas(table, kind):
    X, y = table
    other = polars.from_pandas(X) if kind == "polars" else pyarrow.Table.from_pandas(X)
    expected = net().fit(X, y)
    fitted = net().fit(other, y)
    assert np.array_equal(fitted.predict_proba(other), expected.predict_proba(X))
    # trained on one, asked with the other
    assert np.array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    assert np.array_equal(expected.predict_proba(other), expected.predict_proba(X))
    assert list(fitted.feature_names_in_) == list(X.columns)


def test_folds_of_a_polars_frame_are_those_of_pandas(table):
    X, y = table
    folds = StratifiedKFold(3)
    expected = cross_val_score(net(), X, y, cv=folds)
    assert np.array_equal(cross_val_score(net(), polars.from_pandas(X), y, cv=folds), expected)


# --------------------------------------------------------------------- imbalanced-learn


@pytest.fixture(scope="module")
def rare():
    """Rows of which one in twelve is positive."""
    X, y = make_classification(
        360, 6, n_informative=4, weights=[0.92], class_sep=0.7, flip_y=0, random_state=1
    )
    return X, np.where(y == 1, "rare", "usual")


def test_resampled_rows_reach_the_net_in_training_alone(rare):
    X, y = rare
    pipe = make_imblearn_pipeline(RandomOverSampler(random_state=0), net()).fit(X, y)
    more = RandomOverSampler(random_state=0).fit_resample(X, y)
    assert len(more[0]) > len(X)
    expected = net().fit(*more)
    assert np.array_equal(pipe.predict_proba(X), expected.predict_proba(X))
    assert len(pipe.predict(X)) == len(X)


def test_rows_of_a_mixed_frame_are_resampled_too(table):
    X, y = table
    pipe = make_imblearn_pipeline(RandomOverSampler(random_state=0), net()).fit(X, y)
    more, labels = RandomOverSampler(random_state=0).fit_resample(X, y)
    expected = net().fit(more, labels)
    assert np.array_equal(pipe.predict_proba(X), expected.predict_proba(X))
    assert len(more) == 2 * max(np.sum(y == "yes"), np.sum(y == "no"))


def test_smote_finds_more_of_the_rare_class(rare):
    X, y = rare
    with_smote = make_imblearn_pipeline(StandardScaler(), SMOTE(random_state=0), net())
    without = make_pipeline(StandardScaler(), net())
    more, fewer = (
        cross_val_predict(each, X, y, cv=StratifiedKFold(3)) for each in (with_smote, without)
    )
    assert recall_score(y, more, pos_label="rare") > recall_score(y, fewer, pos_label="rare")
    assert balanced_accuracy_score(y, more) > balanced_accuracy_score(y, fewer)


def test_a_regressor_takes_polars_or_pandas_output_of_a_scaler():
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()

    def predicted(kind):
        pipe = make_pipeline(
            StandardScaler(), NeuralNetRegressor(max_epochs=3, random_state=0)
        ).set_output(transform=kind)
        return pipe.fit(X, y).predict(X)

    expected = predicted("default")
    assert np.array_equal(predicted("pandas"), expected)
    assert np.array_equal(predicted("polars"), expected)
