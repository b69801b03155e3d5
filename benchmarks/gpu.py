"""Train on an accelerator beside loops written by hand and Lightning; count synchronisations.

Usage: python benchmarks/gpu.py [--rounds 5] [--to benchmarks/results]
       python benchmarks/gpu.py --device cpu   # tiny problems: tries the code, measures nothing

Where torch finds no CUDA device it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gpu_contenders as c
import numpy as np
import torch
from gpu_problems import Problem, problems, tiny
from speed_tables import SPREAD, markdown, spread
from timing import digits, environment, interleave, ratios

from skorchlike import Callback

RESULTS = Path(__file__).parent / "results"
SYNCHRONISING = "called a synchronizing CUDA operation"


class WatchAnEpoch(Callback):
    """Let torch warn of every synchronisation in the second epoch."""

    passive = True

    def on_before_train(self, ctx):
        if ctx.epoch == 2:
            torch.cuda.set_sync_debug_mode("warn")

    def on_phase_exit(self, ctx):
        torch.cuda.set_sync_debug_mode("default")


def prepare(problem: Problem, device: torch.device, backend: str) -> c.Fit:
    """Make data and first weights, the same for all."""
    torch.manual_seed(0)
    return c.Fit(problem, *problem.data(), device, problem.build(), backend)


def measure(fit: c.Fit, rounds: int) -> dict[str, Any]:
    """Time the full fits in turn, as ratios to the loops written by hand.

    A contender whose first fit fails is left out, and ``failed`` says why; those that the
    others are divided by may not.
    """

    def run(train: Callable[[c.Fit], c.Fitted]) -> c.Fitted:
        fitted = train(fit)
        if fit.device.type == "cuda":
            torch.cuda.synchronize()
        return fitted

    calls, failed = {}, {}
    for name, train in c.ALL.items():
        try:
            run(train)
        except Exception as error:
            if name in (c.PLAIN, c.BY_HAND, c.COMPILED):
                raise
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            calls[name] = partial(run, train)
    wall, _ = interleave(calls, rounds)
    found = {}
    for name, times in wall.items():
        found[name] = {
            "to_by_hand": ratios(times, wall[c.BY_HAND]),
            "to_compiled": ratios(times, wall[c.COMPILED])["median"],
            "to_plain": ratios(times, wall[c.PLAIN])["median"],
            "ms": digits(float(np.median(times)) * 1e3),
        }
    return {"problem": str(fit.problem), "rounds": rounds, "failed": failed, "contenders": found}


def synchronisations(fit: c.Fit, *callbacks: Any) -> float:
    """Return how often each batch of this package's fit waits for the device.

    An epoch waits too, when it fetches its loss: so those of an epoch of all batches are
    counted less those of half as many.
    """
    counts = []
    n_rows = len(fit.X) // fit.problem.batch_size // 2 * fit.problem.batch_size
    for n in (n_rows, 2 * n_rows):
        short = replace(fit.problem, shape=(n, *fit.problem.shape[1:]), max_epochs=2)
        part = replace(fit, problem=short, X=fit.X[:n], y=fit.y[:n])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            c.skorchlike(part, *callbacks)
        counts.append(sum(SYNCHRONISING in str(one.message) for one in caught))
    return (counts[1] - counts[0]) / (n_rows // fit.problem.batch_size)


def table(found: dict[str, Any]) -> str:
    """Return the table of one problem."""
    rows = [
        [
            name,
            *spread(entry["to_by_hand"]),
            *(f"{entry[key]:.2f}" for key in ("to_compiled", "to_plain")),
            f"{entry['ms']:.4g}",
        ]
        for name, entry in found["contenders"].items()
    ]
    rows += [[name, f"failed: {why}", *[""] * 5] for name, why in found["failed"].items()]
    head = (f"full fit ÷ {c.BY_HAND}", *SPREAD, "÷ also compiled", "÷ plain eager", "ms")
    waits = found["synchronisations"]
    said = "not counted without CUDA" if waits is None else f"{waits:g}"
    return (
        f"{found['problem']}; rounds: {found['rounds']}.\n\n{markdown(head, rows)}\n\n"
        f"Synchronisations a batch by {c.OWN}: {said}."
    )


def main(said: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--device",
        default="cuda",
        help="cuda, cuda:1, ...; cpu only tries the code (default: cuda)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that each contender is fitted (default: 5)"
    )
    parser.add_argument("--backend", default="inductor", help="torch.compile's (default: inductor)")
    parser.add_argument("--to", type=Path, help="store the record here (else on CUDA: results)")
    args = parser.parse_args(said)
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} finds no CUDA device. If this machine has one, install "
            "torch's CUDA build; --device cpu only tries the code.",
            file=sys.stderr,
        )
        return 2
    if not cuda:
        print(
            f"On {device} this only tries the code, on tiny problems: the figures below mean "
            "nothing, and no CUDA graph runs.\n",
            flush=True,
        )

    record = {"about": environment(torch.get_num_threads()), "result": {}}
    record["about"]["device"] = torch.cuda.get_device_name(device) if cuda else str(device)
    for problem in problems() if cuda else tiny():
        fit = prepare(problem, device, args.backend)
        found = measure(fit, args.rounds)
        found["synchronisations"] = synchronisations(fit, WatchAnEpoch()) if cuda else None
        record["result"][problem.name] = found
        print(f"{table(found)}\n", flush=True)
    folder = args.to or (RESULTS if cuda else None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (folder / "gpu.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
