"""The benchmark of accelerators: its contenders train alike, tried on the CPU."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROBLEMS = ("small MLP", "CNN", "transformer encoder")


@pytest.fixture
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/gpu.py` does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(params=PROBLEMS)
def fit(request, bench):
    """A tiny problem whose only batch holds all rows: their order is then the same for all."""
    problem = next(p for p in bench("gpu_problems").tiny() if p.name == request.param)
    whole = replace(problem, batch_size=problem.shape[0], max_epochs=3)
    return bench("gpu").prepare(whole, torch.device("cpu"), "eager")


def test_all_contenders_train_alike(bench, fit):
    contenders = bench("gpu_contenders")
    start = [p.detach().clone() for p in fit.module.parameters()]
    expected = contenders.plain(fit)
    assert len(expected.loss_curve) == 3
    assert expected.loss_curve[-1] < expected.loss_curve[0]
    # bfloat16 keeps eight bits of the significand
    tolerance = 2e-2 if fit.problem.bfloat16 else 1e-5
    for train in contenders.ALL.values():
        fitted = train(fit)
        np.testing.assert_allclose(fitted.loss_curve, expected.loss_curve, rtol=tolerance)
        named = dict(expected.module.named_parameters())
        assert list(dict(fitted.module.named_parameters())) == list(named)
    for given, before in zip(fit.module.parameters(), start, strict=True):
        assert torch.equal(given, before)


def test_the_tricks_are_those_of_the_problem(bench, fit):
    contenders = bench("gpu_contenders")
    for train in (contenders.tricky, contenders.skorchlike):
        weights = [p for p in train(fit).module.parameters() if p.ndim == 4 and p.shape[1] > 1]
        assert bool(weights) == fit.problem.channels_last
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
        assert all(p.dtype == torch.float32 for p in train(fit).module.parameters())


def test_the_problems_of_a_full_run_are_whole_batches_of_the_kinds_that_are_tried(bench):
    problems = bench("gpu_problems")
    assert [p.name for p in problems.problems()] == [p.name for p in problems.tiny()]
    for full, small in zip(problems.problems(), problems.tiny(), strict=True):
        assert full.shape[0] % full.batch_size == 0
        assert (full.bfloat16, full.channels_last, full.graph) == (
            small.bfloat16,
            small.channels_last,
            small.graph,
        )
    with pytest.raises(ValueError, match="no multiple"):
        replace(problems.tiny()[0], batch_size=30).data()


def test_it_prints_and_stores_what_it_measured(bench, capsys, monkeypatch, tmp_path):
    gpu, problems = bench("gpu"), bench("gpu_problems").tiny()[:1]
    monkeypatch.setattr(gpu, "tiny", lambda: problems)
    said = ["--device", "cpu", "--backend", "eager", "--rounds", "1", "--to", str(tmp_path)]
    assert gpu.main(said) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())["result"]["small MLP"]
    first = printed.splitlines()[0]
    assert "the figures below mean nothing, and no CUDA graph runs" in first
    assert "small MLP: 64 × 4, batch 16, 3 epochs of 4 steps; tricks: fused Adam" in printed
    assert set(found["contenders"]) == set(bench("gpu_contenders").ALL)
    assert found["contenders"]["plain eager loop"]["to_plain"] == 1
    assert "Synchronisations a batch by skorchlike: not counted without CUDA." in printed


def test_a_contender_that_fails_is_named_and_the_loops_by_hand_may_not(bench, monkeypatch):
    gpu, c = bench("gpu"), bench("gpu_contenders")
    fit = gpu.prepare(bench("gpu_problems").tiny()[0], torch.device("cpu"), "eager")

    def fails(fit):
        raise RuntimeError("no such graph\nand more")

    by_hand = dict.fromkeys((c.PLAIN, c.BY_HAND, c.COMPILED), c.plain)
    monkeypatch.setattr(c, "ALL", by_hand | {"Lightning": fails})
    found = gpu.measure(fit, 1) | {"synchronisations": 0.0}
    assert set(found["contenders"]) == set(by_hand)
    assert found["failed"] == {"Lightning": "RuntimeError: no such graph"}
    assert "failed: RuntimeError: no such graph" in gpu.table(found)
    monkeypatch.setattr(c, "ALL", by_hand | {c.PLAIN: fails})
    with pytest.raises(RuntimeError, match="no such graph"):
        gpu.measure(fit, 1)


def test_synchronisations_are_counted_a_batch_and_not_an_epoch(bench, monkeypatch):
    """By a warning for each batch and two for each epoch, as torch would warn."""
    import warnings

    gpu = bench("gpu")
    fit = gpu.prepare(bench("gpu_problems").tiny()[0], torch.device("cpu"), "eager")
    trained = []

    def train(part):
        trained.append((len(part.X), part.problem.max_epochs))
        for _ in range(len(part.X) // part.problem.batch_size + 2):
            warnings.warn(gpu.SYNCHRONISING, UserWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=1)

    monkeypatch.setattr(gpu.c, "skorchlike", train)
    assert gpu.synchronisations(fit) == 1
    assert trained == [(32, 2), (64, 2)]


def test_without_cuda_it_says_so_and_exits_with_two(bench, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench("gpu").main([]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"torch {torch.__version__} finds no CUDA device. If this machine has one, install torch's "
        "CUDA build; --device cpu only tries the code.\n"
    )
    assert captured.out == ""
