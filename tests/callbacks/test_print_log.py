"""The table that is printed, a line an epoch."""

from __future__ import annotations

import pickle

import pytest
from doubles import Log, make_data, make_net

from skorchlike import Callback, PrintLog
from skorchlike.exceptions import CancelEpochException

X, Y = make_data()


class Sink(Log):
    def __call__(self, line):
        self.append(line)


def lines_of(*callbacks, fit_params=None, **params):
    sink = Sink()
    net = make_net(callbacks=[PrintLog(sink=sink), *callbacks], **params)
    net.fit(X, Y, **(fit_params or {}))
    return net, [line.split() for line in sink], sink


def test_a_header_and_a_line_an_epoch_with_the_numbers_of_the_history():
    net, cells, lines = lines_of(fit_params={"X_val": X, "y_val": Y})
    header, *rows = cells
    assert header[0] == "epoch"
    assert header[-1] == "duration"
    assert set(header) == set(net.history_.columns)
    assert len(rows) == 3
    for row, record in zip(rows, net.model_.history_, strict=True):
        values = dict(zip(header, row, strict=True))
        assert values["epoch"] == str(record["epoch"])
        for name in ("train_loss", "valid_loss", "valid_accuracy", "lr"):
            assert float(values[name]) == pytest.approx(record[name], rel=1e-3)
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("digits", [2, 6])
def test_digits_are_the_significant_ones(digits):
    sink = Sink()
    net = make_net(callbacks=[PrintLog(sink=sink, digits=digits)]).fit(X, Y)
    column = sink[0].split().index("train_loss")
    printed = [line.split()[column] for line in sink[1:]]
    assert printed == [f"{loss:.{digits}g}" for loss in net.loss_curve_]


def test_the_header_comes_again_when_a_column_comes_in_later():
    _, cells, _ = lines_of(fit_params={"X_val": X, "y_val": Y}, valid_every=2, max_epochs=4)
    heads = [i for i, row in enumerate(cells) if row[0] == "epoch"]
    assert heads == [0, 2]
    assert "valid_loss" not in cells[0]
    assert "valid_loss" in cells[2]
    # the third epoch has no validation
    assert cells[4][cells[2].index("valid_loss")] == "-"
    assert cells[5][cells[2].index("valid_loss")] != "-"


def test_logged_columns_are_printed_whatever_they_hold():
    class Logs(Callback):
        def on_epoch_end(self, ctx):
            for name, value in [("note", "fine"), ("nothing", None), ("n", 3), ("yes", True)]:
                ctx.log(name, value)

    _, cells, _ = lines_of(Logs(), max_epochs=1)
    row = dict(zip(*cells, strict=True))
    assert [row[name] for name in ("note", "nothing", "n", "yes")] == ["fine", "-", "3", "True"]


def test_an_epoch_without_a_training_loss_has_a_line_too():
    class Cancel(Callback):
        def on_epoch_begin(self, ctx):
            if ctx.epoch == 2:
                raise CancelEpochException

    _, cells, _ = lines_of(Cancel())
    assert [row[0] for row in cells] == ["epoch", "1", "2", "3"]
    assert cells[2][cells[0].index("train_loss")] == "-"


def test_every_fit_has_its_own_header():
    sink = Sink()
    net = make_net(callbacks=[PrintLog(sink=sink)], max_epochs=1, warm_start=True)
    net.fit(X, Y).fit(X, Y)
    assert [line.split()[0] for line in sink] == ["epoch", "1", "epoch", "2"]


@pytest.mark.parametrize(("verbose", "n_lines"), [(0, 0), (False, 0), (1, 4), (True, 4), (2, 4)])
def test_verbose_prints_it_and_nothing_is_printed_unasked(verbose, n_lines, capsys):
    make_net(verbose=verbose).fit(X, Y).predict(X)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == n_lines
    assert captured.err == ""


def test_verbose_adds_no_second_table(capsys):
    _, cells, _ = lines_of(verbose=1)
    assert len(cells) == 4
    assert capsys.readouterr().out == ""


def test_verbose_and_a_callback_of_that_name():
    class Other(Callback):
        pass

    net = make_net(callbacks={"print_log": Other()}, verbose=1).fit(X, Y)
    assert net.n_iter_ == 3


def test_it_is_late_passive_and_can_be_pickled():
    assert PrintLog.passive
    assert pickle.loads(pickle.dumps(PrintLog(digits=3))).digits == 3
    assert pickle.loads(pickle.dumps(make_net(callbacks=["print_log"], verbose=0))).max_epochs == 3


def test_it_prints_what_early_stopping_decided_on(capsys):
    net = make_net(callbacks=["early_stopping", "print_log"], callbacks__early_stopping__patience=1)
    net.set_params(callbacks__early_stopping__monitor="train_loss", lr=50.0, max_epochs=50)
    net.fit(X, Y)
    assert net.n_iter_ < 50
    assert len(capsys.readouterr().out.splitlines()) == net.n_iter_ + 1
