"""An interrupted fit, resumed, ends with the bits of one that was never interrupted."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import make_data
from sklearn.datasets import make_classification, make_regression
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skorchlike import (
    Callback,
    Checkpoint,
    CheckpointError,
    DamagedFileError,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    PrintLog,
)

X, Y = make_classification(300, 6, random_state=0)
X = X.astype(np.float32)


class Stop(Callback):
    """Break a fit off, as a killed process does: nothing after this batch happens."""

    def __init__(self, epoch=1, step=None):
        self.epoch = epoch
        self.step = step

    order = float("inf")
    passive = True

    def on_batch_exit(self, ctx):
        if ctx.training and (ctx.epoch, ctx.step) == (self.epoch, self.step):
            raise InterruptedError

    def on_epoch_end(self, ctx):
        if ctx.epoch == self.epoch and self.step is None:
            raise InterruptedError


def make(folder, cls=NeuralNetClassifier, **params):
    params = {
        "module__dropout": 0.2,
        "max_epochs": 4,
        "batch_size": 50,
        "validation_fraction": 0.2,
        "random_state": 0,
        "callbacks": {"checkpoint": Checkpoint(folder, unit="batch")},
    } | params
    return cls(**params)


def same(a, b):
    """Whether two fits left the same bits."""
    one, other = a.model_, b.model_
    for first, second in (
        (one.module_.state_dict(), other.module_.state_dict()),
        (flat(one.optimizer_), flat(other.optimizer_)),
    ):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name
    assert records(one) == records(other)
    assert one.stop_reason_ == other.stop_reason_
    assert torch.equal(one.continuation_["rng"]["torch"], other.continuation_["rng"]["torch"])
    return True


def flat(optimizer):
    return {
        f"{i}.{key}": value
        for i, state in optimizer["state"].items()
        for key, value in state.items()
    }


def records(model):
    return [{k: v for k, v in record.items() if k != "duration"} for record in model.history_]


def interrupt(folder, epoch, step=None, data=(X, Y), fit=None, **params):
    """Fit until it breaks off."""
    with pytest.raises(InterruptedError):
        make(folder, **params).fit(*data, callbacks=[Stop(epoch, step)], **(fit or {}))


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (1, 5), (2, None), (3, 2), (4, 5), (4, None)])
def test_a_fit_broken_off_anywhere_ends_with_the_same_bits(tmp_path, epoch, step):
    whole = make(tmp_path / "whole").fit(X, Y)
    interrupt(tmp_path / "cut", epoch, step)
    resumed = make(tmp_path / "cut").fit(X, Y, resume=True)
    assert same(whole, resumed)
    assert np.array_equal(whole.predict_proba(X), resumed.predict_proba(X))


def test_a_fit_may_be_broken_off_again_and_again(tmp_path):
    whole = make(tmp_path / "whole").fit(X, Y)
    interrupt(tmp_path / "cut", 1, 3)
    for epoch, step in ((1, 4), (2, 1), (3, None)):
        interrupt(tmp_path / "cut", epoch, step, fit={"resume": True})
    assert same(whole, make(tmp_path / "cut").fit(X, Y, resume=True))


def test_a_seed_that_was_not_said_comes_from_the_checkpoint(tmp_path):
    interrupt(tmp_path, 2, 2, random_state=None)
    resumed = make(tmp_path, random_state=None).fit(X, Y, resume=True)
    whole = make(tmp_path / "whole", random_state=resumed.model_.seed_).fit(X, Y)
    assert same(whole, resumed)


def test_an_empty_folder_starts_afresh(tmp_path):
    resumed = make(tmp_path / "none").fit(X, Y, resume=True)
    assert same(make(tmp_path / "whole").fit(X, Y), resumed)


def test_a_finished_fit_gives_the_saved_model_and_trains_nothing(tmp_path):
    whole = make(tmp_path).fit(X, Y)

    class Trains(Callback):
        passive = True

        def on_begin(self, ctx):
            raise AssertionError("trained again")

    resumed = make(tmp_path).fit(X, Y, resume=True, callbacks=[Trains()])
    assert same(whole, resumed)
    assert np.array_equal(whole.predict_proba(X), resumed.predict_proba(X))


def test_more_epochs_go_on_where_the_finished_fit_was_before_its_end(tmp_path):
    make(tmp_path, max_epochs=2).fit(X, Y)
    longer = make(tmp_path, max_epochs=4).fit(X, Y, resume=True)
    assert same(make(tmp_path / "whole").fit(X, Y), longer)


def test_fewer_epochs_than_the_checkpoint_has_are_refused(tmp_path):
    make(tmp_path).fit(X, Y)
    with pytest.raises(ParameterError, match=r"max_epochs.* is 3.*epoch 4.*total"):
        make(tmp_path, max_epochs=3).fit(X, Y, resume=True)


def test_a_fit_that_a_callback_ended_is_finished_with_more_epochs_too(tmp_path):
    def stopping(folder, **params):
        callbacks = {"checkpoint": Checkpoint(folder), "stop": EarlyStopping(patience=2)}
        return make(folder, callbacks=callbacks, max_epochs=60, lr=0.1, **params)

    whole = stopping(tmp_path).fit(X, Y)
    assert whole.model_.stop_reason_ not in ("completed", "interrupted")
    again = stopping(tmp_path).set_params(max_epochs=90).fit(X, Y, resume=True)
    assert same(whole, again)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"lr": 0.5}, "`lr` was 0.001 and is 0.5"),
        ({"module__dropout": 0.3}, "`module__dropout` was 0.2 and is 0.3"),
        ({"batch_size": 20}, "`batch_size` was 50 and is 20"),
        ({"validation_fraction": 0.3}, "`validation_fraction` was 0.2"),
        ({"random_state": 1}, "`random_state` was 0 and is 1"),
        ({"stop": EarlyStopping()}, "`callbacks__stop` was left out"),
    ],
)
def test_another_fit_is_refused_with_what_differs(tmp_path, params, told):
    interrupt(tmp_path, 2, 2)
    params = {"stop": None, **params}
    callbacks = {"checkpoint": Checkpoint(tmp_path), "stop": params.pop("stop")}
    net = make(tmp_path, callbacks=callbacks, **params)
    before = dict(vars(net))
    with pytest.raises(CheckpointError, match=told):
        net.fit(X, Y, resume=True)
    assert vars(net) == before


def test_other_data_are_refused(tmp_path):
    interrupt(tmp_path, 2, 2)
    other = X.copy()
    other[17, 3] += 1e-6
    with pytest.raises(CheckpointError, match="X holds other data"):
        make(tmp_path).fit(other, Y, resume=True)
    with pytest.raises(CheckpointError, match="y holds other data"):
        make(tmp_path).fit(X, 1 - Y, resume=True)
    with pytest.raises(CheckpointError, match=r"X was float32 of shape \(300, 6\) and is float64"):
        make(tmp_path).fit(X.astype(float), Y, resume=True)
    with pytest.raises(CheckpointError, match=r"X was float32 of shape \(300, 6\) .*\(299, 6\)"):
        make(tmp_path).fit(X[1:], Y[1:], resume=True)
    with pytest.raises(CheckpointError, match="sample_weight was left out and is float64 of shape"):
        make(tmp_path).fit(X, Y, sample_weight=np.arange(1.0, 301), resume=True)


def test_what_only_watches_may_differ(tmp_path):
    interrupt(tmp_path, 2, 2)
    resumed = make(tmp_path).set_params(callbacks__checkpoint__keep=3)
    resumed.fit(X, Y, resume=True, callbacks=[PrintLog()])
    assert same(make(tmp_path / "whole").fit(X, Y), resumed)


def test_resume_takes_the_path_of_a_folder_without_a_checkpoint_callback(tmp_path):
    interrupt(tmp_path, 2, 2)
    resumed = make(tmp_path, callbacks=None).fit(X, Y, resume=tmp_path)
    assert same(make(tmp_path / "whole").fit(X, Y), resumed)
    assert not list(tmp_path.glob("finished*"))


@pytest.mark.parametrize("wrong", [3, 1.5, ["a"], object(), ""])
def test_resume_from_something_that_is_no_path_is_refused(wrong):
    with pytest.raises(ParameterError, match="`resume` argument"):
        NeuralNetClassifier().fit(X, Y, resume=wrong)


def test_resume_without_a_folder_says_what_to_add():
    with pytest.raises(ParameterError, match="`Checkpoint` callback, and there is none"):
        NeuralNetClassifier().fit(X, Y, resume=True)


def test_resume_from_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        NeuralNetClassifier().fit(X, Y, resume=tmp_path / "none")


@pytest.mark.parametrize("snapshot", [{}, {"module": {}}, {"position": None}])
def test_a_dict_that_is_no_snapshot_is_refused(snapshot):
    with pytest.raises(DamagedFileError, match="snapshot given as `resume` is damaged"):
        NeuralNetClassifier().fit(X, Y, resume=snapshot)


def test_something_that_is_neither_file_nor_folder_is_refused():
    with pytest.raises(CheckpointError, match="no such folder or file"):
        NeuralNetClassifier().fit(X, Y, resume="/dev/null")


def test_resume_and_warm_start_exclude_one_another(tmp_path):
    net = make(tmp_path, warm_start=True).fit(X, Y)
    with pytest.raises(ParameterError, match="warm_start"):
        net.fit(X, Y, resume=True)


def test_a_regressor_with_scaled_targets_and_weights_goes_on(tmp_path):
    data = make_regression(200, 5, random_state=1)
    weight = np.random.default_rng(0).uniform(0.5, 2, 200)
    params = {"cls": NeuralNetRegressor, "data": data, "fit": {"sample_weight": weight}}
    interrupt(tmp_path / "cut", 2, 2, **params)
    whole = make(tmp_path / "whole", NeuralNetRegressor).fit(*data, sample_weight=weight)
    resumed = make(tmp_path / "cut", NeuralNetRegressor)
    assert same(whole, resumed.fit(*data, sample_weight=weight, resume=True))


class Noisy(Dataset):
    """A dataset that draws random numbers for each item."""

    def __len__(self):
        return 120

    def __getitem__(self, i):
        return torch.from_numpy(X[i]) + torch.randn(6) * 0.1, int(Y[i])


class Stream(IterableDataset):
    """A stream, with random numbers too."""

    def __iter__(self):
        for i in range(100):
            yield torch.from_numpy(X[i]) + torch.randn(6) * 0.1, int(Y[i])


def shuffled_loader():
    generator = torch.Generator().manual_seed(5)
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return DataLoader(data, batch_size=40, shuffle=True, generator=generator)


@pytest.mark.parametrize("data", [Noisy, Stream, shuffled_loader])
@pytest.mark.parametrize(("epoch", "step"), [(2, 2), (2, None)])
def test_datasets_and_loaders_go_on_with_their_random_numbers(tmp_path, data, epoch, step):
    params = {"validation_fraction": None, "batch_size": 30, "max_epochs": 3}
    whole = make(tmp_path / "whole", **params).fit(data())
    interrupt(tmp_path / "cut", epoch, step, data=(data(),), **params)
    assert same(whole, make(tmp_path / "cut", **params).fit(data(), resume=True))


def test_workers_go_on_too(tmp_path):
    params = {"validation_fraction": None, "batch_size": 30, "max_epochs": 2}
    params["train_loader__num_workers"] = 2
    whole = make(tmp_path / "whole", **params).fit(Noisy())
    interrupt(tmp_path / "cut", 2, 3, data=(Noisy(),), **params)
    assert same(whole, make(tmp_path / "cut", **params).fit(Noisy(), resume=True))


def test_gradients_that_wait_for_their_step_are_kept(tmp_path):
    def net(folder):
        callbacks = {"checkpoint": Checkpoint(folder, unit="batch"), "ga": "gradient_accumulation"}
        return {"callbacks": callbacks, "callbacks__ga__n_batches": 3}

    whole = make(tmp_path / "whole", **net(tmp_path / "whole")).fit(X, Y)
    interrupt(tmp_path / "cut", 2, 2, **net(tmp_path / "cut"))
    assert same(whole, make(tmp_path / "cut", **net(tmp_path / "cut")).fit(X, Y, resume=True))


class Momentum(Callback):
    """Gradients are not cleared but scaled: they are part of the state."""

    def do_zero_grad(self, ctx):
        with torch.no_grad():
            for parameter in ctx.module.parameters():
                parameter.grad *= 0.5


def test_gradients_that_are_never_cleared_are_kept(tmp_path):
    def callbacks(folder):
        return {"checkpoint": Checkpoint(folder, unit="batch"), "momentum": Momentum()}

    whole = make(tmp_path / "whole", callbacks=callbacks(tmp_path / "whole")).fit(X, Y)
    interrupt(tmp_path / "cut", 2, 2, callbacks=callbacks(tmp_path / "cut"))
    again = make(tmp_path / "cut", callbacks=callbacks(tmp_path / "cut"))
    assert same(whole, again.fit(X, Y, resume=True))


class DrawsGlobally(Callback):
    """Uses NumPy's global generator, as a user's code may."""

    def on_batch_begin(self, ctx):
        ctx.X = ctx.X + float(np.random.normal())  # noqa: NPY002


def test_numpys_global_generator_goes_on_where_something_drew_from_it(tmp_path):
    def callbacks(folder):
        return {"checkpoint": Checkpoint(folder, unit="batch"), "draws": DrawsGlobally()}

    np.random.seed(3)  # noqa: NPY002
    whole = make(tmp_path / "whole", callbacks=callbacks(tmp_path / "whole")).fit(X, Y)
    np.random.seed(3)  # noqa: NPY002
    interrupt(tmp_path / "cut", 2, 2, callbacks=callbacks(tmp_path / "cut"))
    np.random.seed(99)  # noqa: NPY002
    again = make(tmp_path / "cut", callbacks=callbacks(tmp_path / "cut"))
    assert same(whole, again.fit(X, Y, resume=True))


def test_the_users_global_generators_stay_where_nothing_drew_from_them(tmp_path):
    interrupt(tmp_path, 2, 2)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    make(tmp_path).fit(X, Y, resume=True)
    drawn = np.random.normal(), torch.rand(()).item()  # noqa: NPY002
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    assert drawn == (np.random.normal(), torch.rand(()).item())  # noqa: NPY002


def test_the_function_of_a_path_is_called_once_a_fit(tmp_path):
    calls = []

    def folder(ctx):
        calls.append(ctx.fingerprint)
        return tmp_path / "run"

    def callbacks():
        return {"checkpoint": Checkpoint(folder, unit="batch")}

    # without a seed the fit begins anew once the checkpoint's is known
    interrupt(None, 2, 2, random_state=None, callbacks=callbacks())
    make(None, random_state=None, callbacks=callbacks()).fit(X, Y, resume=True)
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_partial_fit_goes_on_after_a_resumed_fit(tmp_path):
    whole = make(tmp_path / "whole").fit(X, Y).partial_fit(X, Y)
    interrupt(tmp_path / "cut", 2, 2)
    resumed = make(tmp_path / "cut").fit(X, Y, resume=True).partial_fit(X, Y)
    assert same(whole, resumed)


IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
import pickle, test_resuming as t
net = t.make({folder!r}).fit(t.X, t.Y, resume=True)
pickle.dump(net, open({out!r}, "wb"))
"""


def test_a_new_process_ends_with_the_same_bits(tmp_path):
    import pickle

    interrupt(tmp_path / "cut", 3, 2)
    out = tmp_path / "net.pkl"
    code = IN_ANOTHER_PROCESS.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path / "cut"), out=str(out)
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with out.open("rb") as file:
        resumed = pickle.load(file)
    assert same(make(tmp_path / "whole").fit(X, Y), resumed)


def test_a_failing_fit_after_a_resume_leaves_the_estimator_as_it_was(tmp_path):
    interrupt(tmp_path, 2, 2)
    net = make(tmp_path / "other").fit(X, Y)
    before = copy.copy(vars(net))
    net.set_params(callbacks={"checkpoint": Checkpoint(tmp_path, unit="batch")})
    with pytest.raises(InterruptedError):
        net.fit(X, Y, resume=True, callbacks=[Stop(3, 1)])
    assert net.model_ is before["model_"]


def test_a_frame_with_categories_goes_on(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    frame["d"] = pd.Categorical(np.where(X[:, 3] > 0, "high", "low"))
    interrupt(tmp_path / "cut", 2, 2, data=(frame, Y))
    whole = make(tmp_path / "whole").fit(frame, Y)
    assert same(whole, make(tmp_path / "cut").fit(frame, Y, resume=True))
    renamed = frame.assign(d=frame["d"].cat.rename_categories({"low": "lower"}))
    with pytest.raises(CheckpointError, match="X holds other data"):
        make(tmp_path / "cut").fit(renamed, Y, resume=True)


def test_given_validation_data_are_compared(tmp_path):
    held = {"X_val": X[:50], "y_val": Y[:50]}
    interrupt(tmp_path, 2, 2, fit=held)
    whole = make(tmp_path / "whole").fit(X, Y, **held)
    with pytest.raises(CheckpointError, match="y_val holds other data"):
        make(tmp_path).fit(X, Y, X_val=X[:50], y_val=1 - Y[:50], resume=True)
    assert same(whole, make(tmp_path).fit(X, Y, **held, resume=True))


def test_small_data_of_the_doubles_go_on(tmp_path):
    data = make_data()
    params = {"batch_size": -1, "validation_fraction": None, "module__dropout": 0.0}
    interrupt(tmp_path / "cut", 2, 1, data=data, **params)
    whole = make(tmp_path / "whole", **params).fit(*data)
    assert same(whole, make(tmp_path / "cut", **params).fit(*data, resume=True))
