"""Print what fits, steps, predictions, the import and memory cost beside other packages.

Usage: python benchmarks/run.py [--quick] [--only SECTION ...] [--to FOLDER]

Each section is measured in a process of its own, its contenders in turn in that one. A full run
stores its records in benchmarks/results, a quick one nowhere, and either in the FOLDER of --to;
`report.py` makes the docs page from them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import sections
import speed_tables

TITLES = {
    "fits": "Full fits",
    "fits_two_threads": "Full fits, two threads",
    "loop": "The loop itself",
    "prediction": "Prediction",
    "import": "Import",
    "memory": "Memory",
    "scaling": "Cost as work grows",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few rounds, under two minutes; stores nothing without --to",
    )
    parser.add_argument("--only", nargs="+", choices=sections.SECTIONS, help="these alone")
    parser.add_argument(
        "--to", type=Path, help="store the records here, instead of a full run's benchmarks/results"
    )
    args = parser.parse_args()
    folder = args.to or (None if args.quick else sections.RESULTS)

    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"The machine is busy (load average {load:.1f}): threads that wait for a core make the "
            "figures worse, those of two threads above all.",
            file=sys.stderr,
        )
    started, records = time.perf_counter(), {}
    for name in args.only or sections.SECTIONS:
        records[name] = sections.run(name, args.quick)
        print(f"\n## {TITLES[name]}\n\n{speed_tables.section(name, records)}", flush=True)
        if folder is not None:
            sections.store(folder, name, records[name])
    if not args.only:
        print(f"\n## What is to be reached\n\n{speed_tables.verdict(records)}")
    print(f"\n{time.perf_counter() - started:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
