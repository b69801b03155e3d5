"""Resumed fits where a part is unusual: sizes, optimizers, buffers, structures, frozen layers."""

import contextlib
import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_resuming import Stop, X, Y, interrupt, make, same
from torch import nn

from skorchlike import Callback, Checkpoint, CheckpointError, NeuralNetClassifier
from skorchlike.model.checkpoints import CheckpointFolder


def narrow(n_in, hidden=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def resumed_everywhere(
    tmp_path, data=(X, Y), fit=None, places=((2, 1), (2, 3), (2, None)), **params
):
    """Compare the fit with ones broken off at some places; return it."""
    fit = fit or {}
    said = {"batch_size": 50, "max_epochs": 3, "validation_fraction": None, **params}

    def new(folder):
        own = said.get("callbacks", dict)
        callbacks = {**own(), "checkpoint": Checkpoint(tmp_path / folder, unit="batch")}
        return make(None, **{**said, "callbacks": callbacks})

    whole = new("whole").fit(*data, **fit)
    for epoch, step in places:
        folder = f"{epoch} {step}"
        with pytest.raises(InterruptedError):
            new(folder).fit(*data, callbacks=[Stop(epoch, step)], **fit)
        assert same(whole, new(folder).fit(*data, resume=True, **fit))
    return whole


class Own(NeuralNetClassifier):
    """The classifier without the parameters that `make` has for the built-in module."""

    def __init__(self, module=None, **params):
        params.pop("module__dropout", None)
        super().__init__(module, **params)


@pytest.mark.parametrize("n_features", [6, 10, 13])
@pytest.mark.parametrize("batch_size", [10, 25, 50])
def test_odd_rows_and_batches_keep_their_place_in_memory(tmp_path, n_features, batch_size):
    # kernels round otherwise where memory is aligned otherwise
    data = np.random.default_rng(0).normal(size=(120, n_features)).astype(np.float32), Y[:120]
    places = [(2, step) for step in range(1, -(-120 // batch_size) + 1)][:5]
    resumed_everywhere(
        tmp_path, data, places=places, cls=Own, module=narrow(n_features), batch_size=batch_size
    )


@pytest.mark.parametrize("name", ["NAdam", "ASGD", "RAdam", "Rprop", "Adafactor"])
def test_optimizers_keep_the_dtypes_of_their_states(tmp_path, name):
    data = X.astype(float), Y
    resumed_everywhere(tmp_path, data, optimizer=getattr(torch.optim, name))


class Master(torch.optim.Optimizer):
    """SGD that keeps the weights of a bfloat16 module in float32, and counts in integers."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["master"], state["n"] = p.float(), torch.zeros((), dtype=torch.int64)
                state["master"] -= group["lr"] * p.grad.float()
                state["n"] += 1
                p.copy_(state["master"])


def test_master_weights_of_a_half_precision_module_stay_whole(tmp_path):
    whole = resumed_everywhere(
        tmp_path, cls=Own, module=narrow(6).bfloat16(), optimizer=Master, lr=0.01
    )
    state = whole.model_.optimizer_["state"][0]
    assert (state["master"].dtype, state["n"].dtype) == (torch.float32, torch.int64)
    again = make(
        None,
        cls=Own,
        module=narrow(6).bfloat16(),
        optimizer=Master,
        lr=0.01,
        max_epochs=3,
        validation_fraction=None,
        callbacks={"checkpoint": Checkpoint(tmp_path / "whole", unit="batch")},
    )
    read = again.fit(X, Y, resume=True).model_.optimizer_["state"][0]
    assert torch.equal(read["master"], state["master"])


class Grows(nn.Module):
    """A module whose buffers appear, grow and change their dtype in its forward."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)
        self.register_buffer("count", None, persistent=False)
        self.register_buffer("seen", torch.zeros(0))
        self.register_buffer("kind", torch.zeros(1, dtype=torch.int64), persistent=False)

    def forward(self, X):
        if self.training:
            self.count = torch.ones(1) if self.count is None else self.count + 1
            self.seen = torch.cat([self.seen, torch.ones(1)])[-7:]
            self.kind = self.kind.float() + 0.5
        return self.linear(X) * (1 + 0.01 * self.count + self.seen.sum() + self.kind)


def test_buffers_that_appear_and_grow_come_back(tmp_path):
    torch.manual_seed(0)
    resumed_everywhere(tmp_path, cls=Own, module=Grows())


class Freezes(Callback):
    """Freezes a layer, and stops a normalization from learning, in the second epoch alone."""

    def on_epoch_begin(self, ctx):
        if ctx.epoch == 2:
            ctx.module[0].weight.requires_grad_(False)
            ctx.module[1].eval()


def test_what_a_callback_froze_in_an_earlier_epoch_stays_frozen(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    places = ((2, 2), (2, None), (3, 2))
    whole = resumed_everywhere(
        tmp_path, places=places, cls=Own, module=module, callbacks=lambda: {"freezes": Freezes()}
    )
    callbacks = {"freezes": Freezes(), "checkpoint": Checkpoint(tmp_path / "whole", unit="batch")}
    read = make(
        None, Own, module=module, max_epochs=3, validation_fraction=None, callbacks=callbacks
    ).fit(X, Y, resume=True)
    for one, other in zip(
        whole.model_.module_.parameters(), read.model_.module_.parameters(), strict=True
    ):
        assert one.requires_grad == other.requires_grad
    assert not any(part.training for part in read.model_.module_.modules())


class Splits(Callback):
    """Gives each parameter a group of its own."""

    def on_begin(self, ctx):
        groups = ctx.optimizer.param_groups
        first = groups.pop(0)
        groups += [{**first, "params": [parameter]} for parameter in first["params"]]


def test_a_finished_fit_is_read_back_though_a_callback_changed_the_groups(tmp_path):
    whole = resumed_everywhere(tmp_path, callbacks=lambda: {"splits": Splits()})
    callbacks = {"splits": Splits(), "checkpoint": Checkpoint(tmp_path / "whole", unit="batch")}
    read = make(None, max_epochs=3, validation_fraction=None, callbacks=callbacks)
    assert same(whole, read.fit(X, Y, resume=True))


class Grafts(Callback):
    """Changes the structure of the module too late."""

    def on_epoch_begin(self, ctx):
        if ctx.epoch == 1 and not hasattr(ctx.module, "graft"):
            ctx.module.graft = nn.Linear(2, 2)


def test_a_structure_that_is_not_there_is_named(tmp_path):
    params = {"cls": Own, "module": narrow(6), "validation_fraction": None}
    callbacks = {"grafts": Grafts(), "checkpoint": Checkpoint(tmp_path)}
    with pytest.raises(InterruptedError):
        make(None, callbacks=callbacks, **params).fit(X, Y, callbacks=[Stop(2)])
    with pytest.raises(CheckpointError, match=r"graft.*in on_begin"):
        make(None, callbacks=callbacks, **params).fit(X, Y, resume=True)


UNSEEDED = """
import sys
sys.path.insert(0, {tests!r})
from test_resuming import X, Y, Stop, make
from test_resuming_parts import Own
from torch import nn
from skorchlike import Checkpoint
import torch
torch.seed()
module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
net = make({folder!r}, Own, module=module)
try:
    net.fit(X, Y, resume=True, callbacks=[Stop({epoch}, 2)])
except InterruptedError:
    pass
print(net.n_iter_ if hasattr(net, "model_") else "interrupted")
"""


def test_a_module_that_begins_with_other_weights_goes_on_in_a_new_process(tmp_path):
    from pathlib import Path

    said = {"tests": str(Path(__file__).parent), "folder": str(tmp_path / "run")}
    outputs = []
    for epoch in (2, 99):
        code = UNSEEDED.format(**said, epoch=epoch)
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        outputs.append(done.stdout.decode().strip())
    assert outputs == ["interrupted", "4"]


def test_a_module_of_another_structure_is_still_refused(tmp_path):
    interrupt(tmp_path, 2, 2, cls=Own, module=narrow(6))
    with pytest.raises(CheckpointError, match="`module` reads the same"):
        make(tmp_path, Own, module=narrow(6, hidden=9)).fit(X, Y, resume=True)


def test_a_file_of_the_finished_fit_goes_on_for_more_epochs_too(tmp_path):
    make(tmp_path, max_epochs=2).fit(X, Y)
    whole = make(tmp_path / "whole", max_epochs=4).fit(X, Y)
    longer = make(tmp_path / "other", max_epochs=4)
    assert same(whole, longer.fit(X, Y, resume=tmp_path / "finished.safetensors"))


def test_a_snapshot_of_the_end_has_nothing_to_go_on_from(tmp_path):
    make(tmp_path, max_epochs=2).fit(X, Y)
    snapshot = CheckpointFolder(tmp_path).newest(finished=True)
    with pytest.raises(CheckpointError, match=r"is not there. Set max_epochs back"):
        make(tmp_path / "other", max_epochs=4).fit(X, Y, resume=snapshot)


def test_a_checkpoint_of_a_fit_that_went_on_with_other_data_is_refused(tmp_path):
    other = X * 5 + 20
    make(tmp_path).fit(X, Y).partial_fit(other, Y)
    with pytest.raises(CheckpointError, match=r"from one on other data.*partial_fit"):
        make(tmp_path, max_epochs=5).fit(other, Y, resume=True)


def test_a_checkpoint_of_a_fit_that_went_on_with_the_same_data_is_taken_up(tmp_path):
    whole = make(tmp_path).fit(X, Y).partial_fit(X, Y)
    read = make(tmp_path, max_epochs=5).fit(X, Y, resume=True)
    assert same(whole, read)


def test_warm_start_keeps_the_dtypes_of_the_optimizers_state():
    data = X.astype(float), Y
    params = {"optimizer": torch.optim.NAdam, "max_epochs": 2, "random_state": 0}
    net = NeuralNetClassifier(warm_start=True, **params).fit(*data)
    before = net.model_.optimizer_["state"][0]["mu_product"].dtype
    net = pickle.loads(pickle.dumps(copy.deepcopy(net))).fit(*data)
    assert net.model_.optimizer_["state"][0]["mu_product"].dtype == before


def test_going_back_to_an_earlier_checkpoint_deletes_nothing_later(tmp_path):
    callbacks = {"checkpoint": Checkpoint(tmp_path, keep=9)}
    make(None, callbacks=callbacks).fit(X, Y)
    files = sorted(path.name for path in tmp_path.iterdir())
    file = tmp_path / "epoch-000002.safetensors"
    back = make(None, callbacks=callbacks, max_epochs=2)
    with pytest.raises(CheckpointError, match=r"later checkpoints .epoch 4.*'checkpoint': None"):
        back.fit(X, Y, resume=file)
    back.fit(X, Y, resume=file, callbacks={"checkpoint": None})
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert same(make(tmp_path / "other", max_epochs=2).fit(X, Y), back)


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        ((2, 2), "goes on in epoch 2, after batch 2"),
        ((2, None), "goes on in epoch 2, after batch 5"),
        ((9, 9), "is finished, with 4 epochs"),
        (None, "No checkpoint in .*begins anew"),
    ],
)
def test_verbose_says_where_a_fit_goes_on(tmp_path, capsys, stop, told):
    if stop is not None:
        with contextlib.suppress(InterruptedError):
            make(tmp_path).fit(X, Y, callbacks=[Stop(*stop)])
    make(tmp_path, verbose=1).fit(X, Y, resume=True)
    assert re.search(told, capsys.readouterr().out)
