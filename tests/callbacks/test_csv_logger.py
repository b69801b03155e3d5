"""The history as a CSV file, read back by pandas."""

from __future__ import annotations

import copy
import csv
import os
import pickle
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from sklearn.model_selection import GridSearchCV

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CSVLogger,
)

X, Y = make_data()


class Record(Callback):
    """Log a column in some epochs, announced or not."""

    def __init__(self, values, name="extra", announced=True, order=0):
        self.values = values
        self.name = name
        self.announced = announced
        self.order = order

    @property
    def logs(self):
        return (self.name,) if self.announced else ()

    def on_epoch_end(self, ctx):
        if ctx.epoch in self.values:
            ctx.log(self.name, self.values[ctx.epoch])


class Late(Record):
    order = 300

    def __init__(self, values, name="extra", announced=True):
        super().__init__(values, name, announced, 300)


class Read(Callback):
    """Read the file at the end of each epoch, as whoever looks on would find it."""

    order = 1000

    def __init__(self, path, log):
        self.path = path
        self.log = log

    def on_epoch_end(self, ctx):
        with open(self.path, newline="") as file:
            self.log.append([*csv.DictReader(file)])


def fit(path, *others, valid=True, **params):
    net = make_net(callbacks=[CSVLogger(path), *others], **params)
    return net.fit(X, Y, **({"X_val": X, "y_val": Y} if valid else {}))


def assert_holds_history(path, net):
    pd.testing.assert_frame_equal(
        pd.read_csv(path), net.history_, check_exact=True, check_dtype=False
    )


def rows_of(path):
    with open(path, newline="") as file:
        return [*csv.DictReader(file)]


# ----------------------------------------------------------------------- the file


def test_pandas_reads_back_the_history_to_the_last_bit(tmp_path):
    values = np.random.default_rng(0).lognormal(0, 50, 40)
    record = Record(dict(enumerate(values, start=1)))
    net = fit(tmp_path / "h.csv", record, max_epochs=40)
    assert_holds_history(tmp_path / "h.csv", net)
    assert [float(row["extra"]) for row in rows_of(tmp_path / "h.csv")] == values.tolist()


def test_strings_numbers_and_missing_values_come_back(tmp_path):
    values = {1: 'a "word", and\na line', 3: "b"}
    others = [
        ("flags", Record({1: True, 2: False, 3: True}, "flag")),
        ("counts", Record({2: 3}, "count")),
        ("limits", Record({1: np.inf, 2: -np.inf, 3: np.nan}, "far")),
    ]
    net = fit(tmp_path / "h.csv", Record(values), *others, valid_every=2)
    assert_holds_history(tmp_path / "h.csv", net)
    frame = pd.read_csv(tmp_path / "h.csv")
    assert frame["extra"].tolist()[::2] == [values[1], "b"]
    assert frame["flag"].tolist() == [True, False, True]
    assert frame["valid_loss"].isna().tolist() == [True, False, False]


def test_after_each_epoch_the_file_has_its_row(tmp_path):
    seen = Log()
    net = fit(tmp_path / "h.csv", Read(tmp_path / "h.csv", seen), max_epochs=4, valid_every=2)
    assert [len(rows) for rows in seen] == [1, 2, 3, 4]
    losses = [float(row["train_loss"]) for row in seen[-1]]
    assert losses == net.loss_curve_
    # columns that come later stand in the header from the first epoch on
    assert {tuple(rows[0]) for rows in seen} == {tuple(net.history_)}


def test_the_columns_stand_in_the_file_before_the_first_epoch_has_ended(tmp_path):
    class Look(Callback):
        def on_batch_end(self, ctx):
            header = (tmp_path / "h.csv").read_text().splitlines()[0].split(",")
            assert set(header) == set(ctx.columns)

    net = fit(tmp_path / "h.csv", Look())
    assert_holds_history(tmp_path / "h.csv", net)


@pytest.mark.parametrize("announced", [True, False])
def test_a_column_that_comes_later_is_in_the_file(announced, tmp_path):
    seen = Log()
    record = Record({3: 0.5, 4: 0.25}, announced=announced)
    net = fit(tmp_path / "h.csv", record, Read(tmp_path / "h.csv", seen), max_epochs=4)
    assert_holds_history(tmp_path / "h.csv", net)
    assert [len(rows) for rows in seen] == [1, 2, 3, 4]
    assert [row.get("extra") for row in seen[-1]] == ["", "", "0.5", "0.25"]


def test_what_a_later_callback_logs_is_in_the_file_when_the_fit_has_ended(tmp_path):
    net = fit(tmp_path / "h.csv", Late({1: 1.5, 2: 2.5, 3: 3.5}))
    assert net.history_["extra"].tolist() == [1.5, 2.5, 3.5]
    assert_holds_history(tmp_path / "h.csv", net)


def test_missing_folders_are_made_and_a_relative_path_is_that_of_the_fits_begin(
    tmp_path, monkeypatch
):
    class Move(Callback):
        def on_batch_end(self, ctx):
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    net = fit("a/b/h.csv", Move())
    assert_holds_history(tmp_path / "a/b/h.csv", net)
    assert net.model_.callbacks_.csv_logger == {"file": str(tmp_path / "a/b/h.csv")}
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == ["h.csv"]


def test_by_its_name_it_writes_history_csv_and_the_path_can_be_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = make_net(callbacks=["csv_logger"]).fit(X, Y)
    assert_holds_history("history.csv", net)
    net.set_params(callbacks__csv_logger__path=tmp_path / "other.csv").fit(X, Y)
    assert_holds_history("other.csv", net)


# ---------------------------------------------------------------- several fits


def test_a_new_fit_starts_the_file_anew(tmp_path):
    fit(tmp_path / "h.csv", Record({1: 2}), max_epochs=5)
    net = fit(tmp_path / "h.csv", max_epochs=2)
    assert_holds_history(tmp_path / "h.csv", net)
    assert len(rows_of(tmp_path / "h.csv")) == 2


def test_a_continued_fit_adds_its_epochs(tmp_path):
    seen = Log()
    net = fit(tmp_path / "h.csv", Read(tmp_path / "h.csv", seen), warm_start=True)
    net.fit(X, Y)
    net.partial_fit(X, Y)
    assert_holds_history(tmp_path / "h.csv", net)
    assert [len(rows) for rows in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["epoch"] for row in seen[-1]] == ["1", "2", "3", "4", "5", "6", "7"]


def test_a_fit_continued_from_an_earlier_epoch_drops_the_epochs_beyond(tmp_path):
    net = fit(tmp_path / "h.csv", warm_start=True)
    earlier = copy.deepcopy(net)
    net.fit(X, Y)
    seen = Log()
    earlier.fit(X, -X[:, 0] > 0, callbacks={"read": Read(tmp_path / "h.csv", seen)})
    assert [len(rows) for rows in seen] == [4, 5, 6]
    assert_holds_history(tmp_path / "h.csv", earlier)
    assert not earlier.history_.equals(net.history_)


def test_a_continued_fit_makes_a_file_that_is_gone_or_new_whole(tmp_path):
    net = fit(tmp_path / "h.csv", warm_start=True)
    (tmp_path / "h.csv").unlink()
    net.fit(X, Y)
    assert_holds_history(tmp_path / "h.csv", net)
    net.set_params(callbacks__csv_logger__path=tmp_path / "new.csv").fit(X, Y)
    assert_holds_history(tmp_path / "new.csv", net)
    assert len(rows_of(tmp_path / "new.csv")) == 9
    assert len(rows_of(tmp_path / "h.csv")) == 6


def test_a_function_names_the_file_once_a_fit_and_a_continued_fit_keeps_it(tmp_path):
    asked = Log()

    def path(ctx):
        asked.append(ctx.estimator.lr)
        return tmp_path / f"{len(asked)}.csv"

    net = fit(path, lr=0.25, warm_start=True).fit(X, Y)
    assert asked == [0.25]
    assert_holds_history(tmp_path / "1.csv", net)
    other = fit(path, lr=0.5)
    assert asked == [0.25, 0.5]
    assert_holds_history(tmp_path / "2.csv", other)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_fit_of_a_search_has_its_file(n_jobs, tmp_path):
    logger = CSVLogger(lambda ctx: f"{tmp_path}/{ctx.estimator.lr}_{uuid.uuid4()}.csv")
    net = make_net(callbacks=[logger])
    search = GridSearchCV(net, {"lr": [0.1, 0.2]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    files = sorted(tmp_path.iterdir())
    assert [path.name[:3] for path in files].count("0.1") >= 2
    assert len(files) == 5
    best = search.best_estimator_
    assert_holds_history(best.model_.callbacks_.csv_logger["file"], best)


# ------------------------------------------------------------------ ends of a fit


class Early(FailingCallback):
    order = -1


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("on_batch_begin", CancelFitException),
        ("on_epoch_begin", CancelFitException),
        ("on_valid_begin", CancelFitException),
        ("on_epoch_end", CancelFitException),
        ("on_epoch_begin", CancelEpochException),
        ("on_before_train", CancelEpochException),
        ("on_batch_valid_begin", CancelBatchException),
        ("on_batch_begin", KeyboardInterrupt),
        ("on_end", KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("epoch", [1, 2])
def test_however_a_fit_ends_the_file_holds_the_history(place, error, epoch, tmp_path):
    net = make_net(callbacks=[CSVLogger(tmp_path / "h.csv"), Early(place, error, epoch=epoch)])
    try:
        net.fit(X, Y, X_val=X, y_val=Y)
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    if (place, epoch) == ("on_epoch_begin", 1) and error is CancelFitException:
        # nothing was trained: it never began
        assert not (tmp_path / "h.csv").exists()
    else:
        assert_holds_history(tmp_path / "h.csv", net)


def test_after_an_error_the_file_holds_the_epochs_before_it(tmp_path):
    with pytest.raises(OSError, match="from on_batch_end"):
        fit(tmp_path / "h.csv", Early("on_batch_end", OSError, epoch=3))
    rows = rows_of(tmp_path / "h.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["train_loss"] != ""
    assert rows[2]["train_loss"] == ""


def test_without_an_epoch_the_file_of_an_earlier_fit_stays(tmp_path):
    net = fit(tmp_path / "h.csv")
    fit(tmp_path / "h.csv", Early("on_begin", CancelFitException))
    assert_holds_history(tmp_path / "h.csv", net)
    assert [*tmp_path.iterdir()] == [tmp_path / "h.csv"]


def test_a_failure_while_the_file_is_written_leaves_the_file_before_it(tmp_path, monkeypatch):
    net = fit(tmp_path / "h.csv")

    def full(self, *args):
        raise OSError("no space left")

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    with pytest.raises(ValueError, match=r"`path` of CSVLogger.*no space left"):
        fit(tmp_path / "h.csv")
    assert_holds_history(tmp_path / "h.csv", net)
    assert [*tmp_path.iterdir()] == [tmp_path / "h.csv"]


# --------------------------------------------------------------------- being passive


def test_it_changes_no_bit_of_training(tmp_path):
    with_it, without = fit(tmp_path / "h.csv"), make_net().fit(X, Y, X_val=X, y_val=Y)
    assert same_weights(weights_of(with_it.model_.module_), weights_of(without.model_.module_))


def test_it_can_be_pickled_and_copied_at_any_time(tmp_path):
    copies = Log()

    class Copy(Callback):
        order = 400

        def on_epoch_end(self, ctx):
            callback = ctx.callbacks["csv_logger"]
            copies.append(pickle.loads(pickle.dumps(callback)))
            copies.append(copy.deepcopy(callback))

    net = fit(tmp_path / "h.csv", Copy())
    net.set_params(callbacks=[net.callbacks[0]])
    copies.append(pickle.loads(pickle.dumps(net)).callbacks[0])
    assert {copied.path for copied in copies} == {tmp_path / "h.csv"}
    assert len(copies) == 7


# --------------------------------------------------------------------------- errors


def test_a_file_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    batches = []

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    bad = [tmp_path / "folder", tmp_path / "file/h.csv", "a\0b", "", lambda ctx: None]
    for path in bad:
        with pytest.raises(ValueError, match="`path` of CSVLogger must be a file"):
            fit(path, Count())
    assert batches == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert not [*Path.cwd().parent.glob("*.part")]


@pytest.mark.parametrize("path", [None, 3, ["h.csv"]])
def test_an_impossible_path_is_an_error_before_training(path):
    with pytest.raises(ValueError, match=r"'path' parameter of CSVLogger .* Got"):
        fit(path)
