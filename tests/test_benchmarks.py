"""The benchmarks compare equal work: the same steps, and the same training by R and by us."""

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STEPS = {
    "raw loop R": lambda raw: torch_steps(raw.optimizer.state_dict()),
    "raw, DataLoader": lambda raw: torch_steps(raw.optimizer.state_dict()),
    "skorchlike": lambda net: torch_steps(net.model_.optimizer_),
    "skorch": lambda net: torch_steps(net.optimizer_.state_dict()),
    "scikit-learn MLP": lambda mlp: {mlp._optimizer.t},
}


def torch_steps(state):
    """Return the numbers of steps that the parameters have seen."""
    return {int(parameter["step"]) for parameter in state["state"].values()}


@pytest.fixture
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/run.py` does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(params=["w1", "w3"])
def work(request, bench):
    full = getattr(bench("workloads"), request.param)()
    return replace(full, X=full.X[:150], y=full.y[:150], max_epochs=3)


def test_every_contender_has_its_count_of_steps_checked(bench):
    assert set(STEPS) == set(bench("contenders").ALL)


INSTALLED = [name for name in STEPS if name != "skorch" or importlib.util.find_spec("skorch")]


@pytest.mark.parametrize("name", INSTALLED)
def test_every_contender_takes_the_steps_of_the_workload(bench, work, name):
    n_steps = -(-150 // work.batch_size) * 3
    assert work.n_steps == n_steps
    assert STEPS[name](bench("contenders").ALL[name](work)) == {n_steps}


def test_a_contender_that_is_not_installed_is_named(bench, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench("contenders").missing() == ["skorch"]


@pytest.mark.parametrize("name", ["skorchlike", "raw, DataLoader"])
def test_same_weights_and_batches_give_the_losses_of_the_reference(bench, work, name):
    contenders = bench("contenders")
    torch.manual_seed(1)
    work = replace(work, module=work.build_module(), shuffle=False)
    start = [p.detach().clone() for p in work.module.parameters()]
    reference, other = contenders.reference(work), contenders.ALL[name](work)
    losses = other.loss_curve_ if name == "skorchlike" else other.loss_curve
    module = other.model_.module_ if name == "skorchlike" else other.module

    assert len(losses) == work.max_epochs
    np.testing.assert_allclose(losses, reference.loss_curve, rtol=1e-6)
    assert losses[-1] < losses[0]
    for trained, expected in zip(module.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-5, atol=1e-6)
    for given, before in zip(work.module.parameters(), start, strict=True):
        assert torch.equal(given, before)


@pytest.mark.parametrize("name", ["w1", "w3"])
def test_the_workloads_are_those_of_the_documentation(bench, name):
    work = getattr(bench("workloads"), name)()
    shape, hidden, n_classes, batch_size, epochs = {
        "w1": ((10_000, 20), (64, 64), 3, 64, 5),
        "w3": ((150, 4), (20,), 3, 16, 50),
    }[name]
    assert work.X.shape == shape
    assert work.sizes == (shape[1], *hidden, n_classes)
    assert (work.batch_size, work.max_epochs, work.lr) == (batch_size, epochs, 1e-3)
    assert (work.X.dtype, work.y.dtype) == (np.float32, np.int64)


def test_the_loop_is_timed_with_sixty_calls_a_step(bench):
    """Ten callbacks on six stages, on a fit that changes no weight."""
    loop_cost = bench("loop_cost")
    X, y = np.zeros((32, 4), dtype=np.float32), np.arange(32) % 3
    calls = []

    class Counting(loop_cost.SixBatchStages):
        def __getattribute__(self, name):
            if name.startswith("on_batch") or name.startswith(("on_after", "on_before")):
                method = super().__getattribute__(name)
                if getattr(method, "is_no_op", False):
                    return method
                return lambda ctx: calls.append(name)
            return super().__getattribute__(name)

    net = loop_cost.IdleClassifier(
        batch_size=16, max_epochs=3, callbacks={f"c{i}": Counting() for i in range(10)}
    )
    net.fit(X, y)
    assert len(calls) == 10 * 6 * 2 * 3
    assert len(set(calls)) == 6
    assert net.model_.optimizer_["state"] == {}


@pytest.fixture
def tiny(bench):
    return bench("checkpoint_cost").Size("tiny", 5, (4, 3), 10, 6, 2)


def test_the_cost_of_a_checkpoint_is_that_of_a_fit_saved_every_epoch(bench, tiny, tmp_path):
    timed = bench("checkpoint_cost").contenders(tiny, tmp_path)
    plain, saved = timed["fit"](), timed["with checkpoints"]()
    for name, tensor in plain.model_.module_.state_dict().items():
        assert torch.equal(tensor, saved.model_.module_.state_dict()[name])
    assert torch_steps(saved.model_.optimizer_) == {6 * 2}
    files = sorted(path.name for path in (tmp_path / "fit").glob("*.safetensors"))
    assert files == ["epoch-000002.safetensors", "finished.safetensors"]
    again = timed["with checkpoints"]()  # from an empty folder again
    assert torch_steps(again.model_.optimizer_) == {6 * 2}


@pytest.mark.parametrize("name", ["torch.save", "with fsync"])
def test_torch_saves_the_tensors_of_module_and_optimizer(bench, tiny, tmp_path, name):
    bench("checkpoint_cost").contenders(tiny, tmp_path)[name]()
    state = torch.load(tmp_path / "state.pt")
    sizes = [(4, 5), (4,), (3, 4), (3,), (3, 3), (3,)]
    assert [tuple(tensor.shape) for tensor in state["module"].values()] == sizes
    moments = [state["optimizer"]["state"][i]["exp_avg_sq"] for i in range(6)]
    assert [tuple(tensor.shape) for tensor in moments] == sizes


def test_the_table_of_checkpoints_divides_what_was_measured(bench, tiny, tmp_path):
    found = bench("checkpoint_cost").measure(tiny, tmp_path, 1)
    assert found["parameters"] == (5 * 4 + 4 + 4 * 3 + 3 + 3 * 3 + 3) / 1e6
    assert found["megabytes"] * 1e6 > 3 * 4 * found["parameters"] * 1e6
    figures = {"parameters": 5.0, "megabytes": 60.0, "epoch": 200.0, "checkpoint": 30.0}
    row = bench("checkpoint_cost").row("medium", {**figures, "save": 10.0, "synced": 20.0})
    assert row == "| medium | 5 | 60 | 200 | 30 | 10 | 20 | 3.00 | 1.50 | 15% |"
