"""The progress bar."""

from __future__ import annotations

import copy
import pickle
import sys
from contextlib import nullcontext

import pytest
from doubles import FailingCallback, make_data, make_net

from skorchlike import (
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Progress,
)

X, Y = make_data()


class FakeBar:
    """Stands for a bar of tqdm, and remembers all that were opened."""

    opened = []

    def __init__(self, **options):
        self.options = options
        self.n = options.get("initial", 0)
        self.closed = False
        self.postfix = {}
        FakeBar.opened.append(self)

    def update(self, n=1):
        assert not self.closed
        self.n += n

    def set_postfix(self, postfix, refresh=True):
        self.postfix = postfix

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", FakeBar)
    monkeypatch.setattr(FakeBar, "opened", [])
    return FakeBar.opened


def fit(*callbacks, progress=None, **params):
    net = make_net(callbacks=[*callbacks, progress or Progress()], **params)
    return net.fit(X, Y, X_val=X, y_val=Y)


# ----------------------------------------------------------------- real bars


def test_it_shows_epochs_and_batches_on_standard_error(capsys):
    net = fit(progress=Progress(delay=0, min_interval=0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epochs: 100%" in captured.err
    assert "3/3" in captured.err
    assert "train:" in captured.err
    assert "valid:" in captured.err
    assert f"train_loss={net.loss_curve_[-1]:.4g}" in captured.err


def test_it_shows_epochs_alone_when_told_so(capsys):
    fit(progress=Progress(batches=False))
    err = capsys.readouterr().err
    assert "epochs: 100%" in err
    assert "train:" not in err


def test_nothing_is_shown_when_not_asked_for(capsys):
    make_net().fit(X, Y, X_val=X, y_val=Y).predict(X)
    assert capsys.readouterr() == ("", "")


def test_no_bar_is_left_open_after_an_error(capsys):
    from tqdm.auto import tqdm

    with pytest.raises(OSError, match="on_batch_end"):
        fit(FailingCallback("on_batch_end", OSError))
    assert not list(tqdm._instances)
    capsys.readouterr()


# ----------------------------------------------------------------- fake bars


def test_every_batch_and_epoch_is_counted(bars):
    fit()
    epochs, *phases = bars
    assert (epochs.n, epochs.options["total"]) == (3, 3)
    counted = [(bar.options["desc"], bar.n, bar.options["total"]) for bar in phases]
    assert counted == [("train", 2, 2), ("valid", 4, 4)] * 3
    assert all(bar.closed for bar in bars)
    assert all(bar.options["leave"] is False for bar in phases)
    assert {bar.options["mininterval"] for bar in bars} == {0.1}
    # a bar that would come and go in an instant is not shown
    assert {bar.options["delay"] for bar in phases} == {0.5}


def test_the_record_of_the_epoch_stands_behind_the_bar(bars):
    net = fit()
    record = net.model_.history_[-1]
    assert bars[0].postfix == {
        name: f"{record[name]:.4g}" for name in ("train_loss", "valid_loss", "valid_accuracy")
    }


def test_a_continued_fit_shows_the_epochs_before_it(bars):
    fit(warm_start=True).fit(X, Y)
    last = [bar for bar in bars if bar.options["desc"] == "epochs"][-1]
    assert (last.options["initial"], last.options["total"], last.n) == (3, 6, 6)


ENDS = [
    ("on_begin", CancelFitException),
    ("on_epoch_begin", CancelEpochException),
    ("on_before_train", CancelEpochException),
    ("on_batch_begin", CancelBatchException),
    ("on_batch_end", CancelEpochException),
    ("on_valid_begin", CancelEpochException),
    ("on_batch_valid_begin", CancelBatchException),
    ("on_valid_begin", CancelFitException),
    ("on_begin", OSError),
    ("on_before_train", OSError),
    ("on_batch_valid_end", OSError),
    ("on_batch_end", KeyboardInterrupt),
]


@pytest.mark.parametrize(("stage", "error"), ENDS)
def test_however_a_level_is_left_all_bars_are_closed(stage, error, bars):
    fails = error in (OSError, KeyboardInterrupt)
    with pytest.raises(error) if fails else nullcontext() as caught:
        fit(FailingCallback(stage, error))
    notes = getattr(caught.value, "__notes__", ()) if fails else ()
    assert not any("failed too" in note for note in notes)
    assert all(bar.closed for bar in bars)


def test_a_cancelled_batch_is_counted(bars):
    fit(FailingCallback("on_batch_begin", CancelBatchException, step=1))
    assert [bar.n for bar in bars if bar.options["desc"] == "train"] == [2, 2, 2]


# ------------------------------------------------------------------ the library


def test_without_tqdm_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"Progress needs .*'tqdm'.*skorchlike\[progress\]"):
        fit()
    assert make_net().fit(X, Y).n_iter_ == 3


def test_it_can_be_pickled_and_copied_before_and_after_a_fit(bars):
    net = fit()
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert isinstance(copied.callbacks[-1], Progress)
        assert (copied.predict(X) == net.predict(X)).all()


def test_it_keeps_no_bar_in_on_exit(bars):
    seen = []

    class Look(FailingCallback):
        order = 1000

        def on_exit(self, ctx):
            seen.append(pickle.loads(pickle.dumps(ctx.callbacks["progress"])))

    fit(Look("nowhere"))
    assert vars(seen[0]) == Progress().get_params()


# -------------------------------------------------------------------- predict


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
def test_a_prediction_has_a_bar_of_its_batches(bars, method):
    net = fit(progress=Progress(delay=0), predict_batch_size=3)
    bars.clear()
    getattr(net, method)(X, Y) if method == "score" else getattr(net, method)(X)
    assert [bar.options["desc"] for bar in bars] == ["predict"]
    assert bars[0].n == bars[0].options["total"] == -(-len(X) // 3)
    assert bars[0].closed


def test_a_short_prediction_shows_nothing(capsys):
    net = fit(progress=Progress())
    capsys.readouterr()
    net.predict(X)
    assert capsys.readouterr().err == ""


def test_the_bar_of_a_prediction_is_closed_after_an_error(bars):
    net = fit(progress=Progress(delay=0))
    bars.clear()
    net.model_.module_.register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net.predict(X)
    assert [bar.closed for bar in bars] == [True]
