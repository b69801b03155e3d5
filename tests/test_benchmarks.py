"""The benchmarks compare equal work: the same steps, and the same training by all."""

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
    "skorchlike, built-in MLP": lambda net: torch_steps(net.model_.optimizer_),
    "skorch": lambda net: torch_steps(net.optimizer_.state_dict()),
    "Lightning": lambda trained: torch_steps(trained.optimizer.state_dict()),
    "ignite": lambda trained: torch_steps(trained.optimizer.state_dict()),
    "scikit-learn MLP": lambda mlp: {mlp._optimizer.t},
}
PACKAGES = {"skorch": "skorch", "Lightning": "pytorch_lightning", "ignite": "ignite"}
INSTALLED = [n for n in STEPS if n not in PACKAGES or importlib.util.find_spec(PACKAGES[n])]
MLPS = {"skorchlike, built-in MLP", "scikit-learn MLP"}
BEGIN_FROM_GIVEN_WEIGHTS = [n for n in INSTALLED if n not in ("raw loop R", "scikit-learn MLP")]


def torch_steps(state):
    """Return the numbers of steps that the parameters have seen."""
    return {int(parameter["step"]) for parameter in state["state"].values()}


@pytest.fixture
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/run.py` does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(params=["W1", "W2", "W3", "W4"])
def work(request, bench):
    full = bench("workloads").ALL[request.param]()
    return replace(full, X=full.X[:150], y=full.y[:150], batch_size=16, max_epochs=3)


def test_every_contender_has_its_count_of_steps_checked(bench):
    assert set(STEPS) == set(bench("contenders").ALL)


@pytest.mark.parametrize("name", INSTALLED)
def test_every_contender_takes_the_steps_of_the_workload(bench, work, name):
    fits = bench("contenders").suited(work)
    assert (name in fits) == (work.name != "W4" or name not in MLPS)
    if name in fits:
        assert work.n_steps == 30
        assert STEPS[name](fits[name](work)) == {30}


def test_a_contender_that_is_not_installed_is_named_and_left_out(bench, work, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    contenders = bench("contenders")
    assert contenders.missing() == ["skorch", "Lightning", "ignite"]
    assert set(contenders.suited(work)) & set(contenders.missing()) == set()


def test_the_module_of_ones_own_is_no_class_that_the_package_could_know(bench):
    workloads = bench("workloads")
    for module in (workloads.Net, workloads.SmallCNN):
        assert module.__bases__ == (torch.nn.Module,)
        assert "forward" in vars(module)


@pytest.fixture
def unshuffled(bench, work):
    """The workload in float64, from given weights and in the order of the rows."""
    torch.manual_seed(1)
    work = replace(work, X=work.X.astype(np.float64), shuffle=False)
    return replace(work, module=work.build_module().double())


def results(trained):
    """Return the losses of the epochs and the module, whoever has trained."""
    if hasattr(trained, "model_"):
        return trained.loss_curve_, trained.model_.module_
    if hasattr(trained, "history"):
        return trained.history[:, "train_loss"], trained.module_
    return trained.loss_curve, trained.module


@pytest.mark.parametrize("name", BEGIN_FROM_GIVEN_WEIGHTS)
def test_same_weights_and_batches_give_the_losses_of_the_reference(bench, unshuffled, name):
    work, contenders = unshuffled, bench("contenders")
    if name not in contenders.suited(work):
        assert work.name == "W4"
        assert name in MLPS
        return
    start = [p.detach().clone() for p in work.module.parameters()]
    expected_losses, expected_module = results(contenders.reference(work))
    losses, module = results(contenders.ALL[name](work))

    assert len(losses) == work.max_epochs
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8)
    assert losses[-1] < losses[0]
    for trained, expected in zip(module.parameters(), expected_module.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-6, atol=1e-8)
    for given, before in zip(work.module.parameters(), start, strict=True):
        assert torch.equal(given, before)


def test_the_workloads_are_those_of_the_documentation(bench):
    documented = {
        "W1": ((10_000, 20), (20, 64, 64, 3), 64, 5, 785),
        "W2": ((50_000, 54), (54, 256, 256, 7), 256, 3, 588),
        "W3": ((150, 4), (4, 20, 3), 16, 50, 500),
        "W4": ((2_000, 1, 28, 28), None, 64, 1, 32),
    }
    workloads = bench("workloads").ALL
    assert set(workloads) == set(documented)
    for name, (shape, sizes, batch_size, epochs, n_steps) in documented.items():
        work = workloads[name]()
        assert work.X.shape == shape
        assert work.sizes == sizes if work.is_mlp else sizes is None
        assert (work.batch_size, work.max_epochs, work.lr) == (batch_size, epochs, 1e-3)
        assert (work.n_steps, work.X.dtype, work.y.dtype) == (n_steps, np.float32, np.int64)


def test_prediction_by_hand_gives_what_the_estimators_predict(bench):
    """Of the same module; more rows than a chunk has, and one."""
    prediction, c = bench("prediction"), bench("contenders")
    work = bench("workloads").w2()
    X = work.X[:1_500]
    predictors = prediction.build(replace(work, hidden=(8,)), n_fit=300)
    assert set(predictors) >= {prediction.RAW, prediction.RAW_BUILT_IN, c.OWN, c.BUILT_IN}
    for rows in (X, X[:1]):
        found = {name: predict(rows) for name, predict in predictors.items()}
        for probabilities in found.values():
            assert isinstance(probabilities, np.ndarray)
            assert probabilities.shape == (len(rows), 7)
            np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(found[c.OWN], found[prediction.RAW], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            found[c.BUILT_IN], found[prediction.RAW_BUILT_IN], rtol=1e-4, atol=1e-6
        )


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
