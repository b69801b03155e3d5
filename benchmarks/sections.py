"""What `run.py` measures, each section in a process of its own with its number of threads.

Usage: python benchmarks/sections.py NAME [--quick]: prints the section's record as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from timing import digits, environment, set_threads, spread

HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Section(NamedTuple):
    """Where a section's function is, and how many threads it has."""

    module: str
    function: str
    threads: int = 1


SECTIONS = {
    "fits": Section("fits", "measure"),
    "fits_two_threads": Section("fits", "measure_two_threads", 2),
    "loop": Section("loop_cost", "measure"),
    "prediction": Section("prediction", "measure"),
    "import": Section("sections", "import_times"),
    "memory": Section("sections", "memory_peaks"),
    "scaling": Section("scaling", "measure"),
}


def import_times(quick: bool = False) -> dict[str, Any]:
    """Return what the package's import adds to torch's and scikit-learn's."""
    import import_time
    import numpy as np

    rounds = 2 if quick else 11
    base, extra = import_time.measure(rounds).T
    found: dict[str, Any] = {
        "rounds": rounds,
        "to_base": spread(1 + extra / base),
        "base_s": digits(float(np.median(base))),
        "extra_ms": digits(float(np.median(extra)) * 1e3),
    }
    if not quick:
        by_hand, by_us = import_time.measure_first_fit(rounds).T
        found["first_fit_to_base"] = spread(by_us / by_hand)
        found["first_fit_base_s"] = digits(float(np.median(by_hand)))
        found["first_fit_extra_ms"] = digits(float(np.median(by_us - by_hand)) * 1e3)
    return found


def memory_peaks(quick: bool = False) -> dict[str, Any]:
    """Return what `memory.py` stores, without its own note of where it ran."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "memory.json"
        command = [sys.executable, str(HERE / "memory.py"), "--json", str(file)]
        # what it prints would come between the lines of this section's record
        subprocess.run([*command, *["--quick"] * quick], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(file.read_text())
    return {"megabytes": found["megabytes"], "cases": found["results"]}


def run(name: str, quick: bool) -> dict[str, Any]:
    """Measure a section in a fresh process and return its record."""
    command = [sys.executable, __file__, name, *["--quick"] * quick]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def stored(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the records that are in a folder, by section."""
    paths = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def store(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write a section's record."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=SECTIONS)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    section = SECTIONS[args.name]
    set_threads(section.threads)  # before anything that reads it is imported
    measure = getattr(importlib.import_module(section.module), section.function)
    record = {"about": environment(section.threads), "quick": args.quick}
    print(json.dumps({**record, "result": measure(args.quick)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
