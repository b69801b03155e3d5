"""scikit-learn's own callbacks: the fit and its epochs are tasks."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import Log, make_data, make_net
from sklearn.callback import ProgressBar

from skorchlike import (
    Callback,
    CancelEpochException,
    CancelFitException,
    EarlyStopping,
    ParameterError,
)

X, Y = make_data()


class Tasks:
    """A callback of scikit-learn's protocol that writes down its tasks."""

    def __init__(self, log, stop_at=None):
        self.log = log
        self.stop_at = stop_at

    def setup(self, estimator, context):
        self.log.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.log.append(("teardown", context.task_name))

    def on_fit_task_begin(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.log.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        data = (np.asarray(X), np.asarray(y), metadata, fitted_estimator)
        self.log.append(("end", context.task_name, context.task_id, *data))
        return context.task_name == "epoch" and context.task_id == self.stop_at


def run(*callbacks, stop_at=None, weight=None, **params):
    log = Log()
    net = make_net(callbacks=list(callbacks), **params)
    net.set_callbacks(Tasks(log, stop_at))
    return net.fit(X, Y, weight), log


def names(log):
    return [(entry[0], *entry[2:3]) if entry[1] == "epoch" else entry[0] for entry in log]


def test_the_fit_and_each_epoch_is_a_task():
    _, log = run()
    epochs = [entry for n in range(3) for entry in (("begin", n), ("end", n))]
    assert names(log) == ["setup", "begin", *epochs, "end", "teardown"]


def test_the_hooks_receive_the_data_as_they_were_given():
    weight = np.linspace(1, 2, 8)
    _, log = run(weight=weight)
    for entry in (entry for entry in log if entry[0] == "end"):
        np.testing.assert_array_equal(entry[3], X)
        np.testing.assert_array_equal(entry[4], Y)
        assert list(entry[5]) == ["sample_weight"]


def test_a_true_return_ends_the_fit_after_that_epoch():
    net, log = run(stop_at=1, max_epochs=9)
    assert (net.n_iter_, net.model_.stop_reason_) == (2, "terminated")
    assert names(log)[-2:] == ["end", "teardown"]


def test_the_estimator_shown_at_the_end_of_an_epoch_predicts():
    shown = []

    class Shown(Tasks):
        def on_fit_task_end(
            self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
        ):
            shown.append(fitted_estimator.predict_proba(X))

    net = make_net(lr=0.5)
    net.set_callbacks(Shown(Log())).fit(X, Y)
    assert len(shown) == 4
    assert not np.array_equal(shown[0], shown[1])
    np.testing.assert_array_equal(shown[2], shown[3])
    np.testing.assert_array_equal(shown[3], net.predict_proba(X))


def test_it_changes_no_bit_of_the_training():
    net, _ = run()
    plain = make_net().fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


def test_its_own_state_is_not_in_the_model():
    net, _ = run()
    assert net.model_.callbacks_ == {}


def test_early_stopping_and_they_work_together():
    class Flat(Callback):
        logs = ("flat_loss",)

        def on_epoch_end(self, ctx):
            ctx.log("flat_loss", 1.0)

    net, log = run(Flat(), EarlyStopping("flat_loss", patience=2), max_epochs=9)
    assert net.n_iter_ == 3
    assert names(log)[-2:] == ["end", "teardown"]


def test_one_of_them_inside_callbacks_is_an_error_that_points_to_set_callbacks():
    with pytest.raises(ParameterError, match="set_callbacks"):
        make_net(callbacks=[ProgressBar()]).fit(X, Y)
    with pytest.raises(ParameterError, match=r"'bar' is ProgressBar.*set_callbacks"):
        make_net(callbacks={"bar": ProgressBar()}).fit(X, Y)


# ------------------------------------------------------------ other endings


def raising(stage, error, epoch=None):
    def there(self, ctx):
        if epoch in (None, ctx.epoch):
            raise error

    return type("Raising", (Callback,), {stage: there})()


def test_teardown_runs_after_an_error():
    log = Log()
    net = make_net(callbacks=[raising("on_batch_end", OSError)]).set_callbacks(Tasks(log))
    with pytest.raises(OSError):
        net.fit(X, Y)
    assert names(log)[-1] == "teardown"
    assert not hasattr(net, "model_")
    make = make_net().set_callbacks(Tasks(log))
    assert make.fit(X, Y).n_iter_ == 3


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_cancelled_before_its_task_began_ends_no_task_twice(epoch):
    net, log = run(raising("on_epoch_begin", CancelEpochException, epoch))
    assert net.n_iter_ == 3
    begun = [entry[2] for entry in log if entry[:2] == ("begin", "epoch")]
    ended = [entry[2] for entry in log if entry[:2] == ("end", "epoch")]
    assert begun == ended
    assert len(set(ended)) == len(ended)


def test_a_fit_cancelled_in_on_begin_ends_normally():
    net, log = run(raising("on_begin", CancelFitException))
    assert net.model_.stop_reason_ == "cancelled"
    assert names(log).count("begin") == names(log).count("end")


def test_the_epochs_of_a_continued_fit_are_tasks_too():
    log = Log()
    net = make_net(warm_start=True, max_epochs=2).set_callbacks(Tasks(log))
    net.fit(X, Y).fit(X, Y)
    net.partial_fit(X, Y)
    begun = [entry for entry in log if entry[:2] == ("begin", "epoch")]
    assert len(begun) == 5
