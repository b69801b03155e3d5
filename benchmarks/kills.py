"""Kill training processes at random moments, resume them, and compare what comes out.

Usage: python benchmarks/kills.py [--kills 200] [--seed 0] [--only NAME ...] [--docs PAGE]

Each run is a fit with `Checkpoint` and ``resume=True``, killed by SIGKILL again and again and
then let end. Half of the kills come at a random time, four in ten at a random change in the
folder of the checkpoints, that is in the middle of a save, one in ten soon after the start. One
start in ten is a fresh interpreter; the others are forked, which is faster. After each kill the
folder must read without a warning, and have the checkpoint that was reported as saved last; the
next process must go on from the newest; the end must have the bits of a fit that nobody killed.

Exits with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kill_processes import Ended, Kill, Task, fits, import_all, run

from skorchlike.model.checkpoint_manifest import CHECKPOINT, FINISHED, UNFINISHED
from skorchlike.model.checkpoints import CheckpointFolder, read_checkpoint

MARKS = "<!-- figures: benchmarks/kills.py writes them -->", "<!-- end of the figures -->"
MOMENTS = {"mid": "in an epoch", "between": "outside epochs", "save": "in a save"}
PROBLEMS = {
    "damaged": "damaged results",
    "lost": "lost epochs",
    "unequal": "unequal results",
    "failed": "other failures",
}

Place = tuple[float, float]  # epoch, and batch in it: infinite at its end
NOWHERE: Place = (0, 0)


@dataclass
class Counts:
    """What happened in the runs of a configuration.

    Attributes
    ----------
    of : Counter
        Kills by moment, starts, fresh interpreters, ends, problems.
    told : list of str
        The problems in words.
    """

    of: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(self.of[moment] for moment in MOMENTS)

    def wrong(self, problem: str, told: str) -> None:
        """Note that something did not hold."""
        self.of[problem] += 1
        self.told.append(f"{PROBLEMS[problem]}: {told}")


# ------------------------------------------------------------------- after a kill


@dataclass(frozen=True)
class Look:
    """What a process that comes fresh finds in a folder.

    Attributes
    ----------
    newest : tuple
        Where the newest checkpoint is.
    global_step : int
        Its number of training batches.
    in_save : bool
        Whether a save was cut off: a part of a file is there, or a file that is not listed.
    damaged : list of str
        What cannot be read, or was warned about.
    """

    newest: Place
    global_step: int
    in_save: bool
    damaged: list[str]


def look(folder: Path) -> Look:
    """Read all checkpoints of a folder."""
    newest, global_step, damaged, listed = NOWHERE, 0, [], set()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        store = CheckpointFolder(folder)
        try:
            snapshot = store.newest(trusted=fits.TRUSTED)
            if snapshot is not None:
                position = snapshot["position"]
                newest, global_step = place_in(position), position["global_step"]
            for name in store.files():
                listed.add(name)
                read_checkpoint(folder / name, fits.TRUSTED)
        except Exception as error:
            damaged.append(repr(error))
    damaged += [str(warning.message) for warning in warned]
    names = {path.name for path in folder.iterdir()}
    left = {name for name in names if UNFINISHED.fullmatch(name)}
    left |= {name for name in names if CHECKPOINT.fullmatch(name)} - listed
    return Look(newest, global_step, bool(left), damaged)


def place_in(position: dict[str, Any]) -> Place:
    """Return where a snapshot was made."""
    if position["finished"]:
        return math.inf, math.inf
    return position["epoch"], position["step"] if position["in_epoch"] else math.inf


def place_of(file: str | None) -> Place:
    """Return where the checkpoint was made that has this name."""
    if file is None:
        return NOWHERE
    if file == FINISHED:
        return math.inf, math.inf
    numbers = [int(number) for number in re.findall("[0-9]+", file)]
    return numbers[0], numbers[1] if len(numbers) > 1 else math.inf


# -------------------------------------------------------------------------- runs


class Runs:
    """The runs of one configuration.

    Parameters
    ----------
    name : str
        The configuration.
    folder : Path
        For all files; it exists.
    rng : random.Random
        Says when to kill.
    """

    FRESH = 0.1  # so many of the starts are fresh interpreters

    def __init__(self, name: str, folder: Path, rng: random.Random) -> None:
        self.name, self.folder, self.rng = name, folder, rng
        self.counts, self.n_folders = Counts(), 0
        self.whole: dict[int | None, dict[str, str]] = {}
        self.log = folder / f"{name}.log"
        self.seconds, self.n_changes = 1.0, 1

    def do(self, n_kills: int) -> Counts:
        """Kill so often, in as many runs as it takes."""
        counts = self.counts
        self.uninterrupted(1)
        for _ in range(10 * n_kills):
            if counts.kills >= n_kills or counts.of["failed"]:
                break
            self.until_done(min(self.rng.randint(1, 8), n_kills - counts.kills))
        return counts

    def uninterrupted(self, seed: int | None) -> dict[str, str] | None:
        """Return the bits of a fit that nobody kills; without checkpoints it has the same."""
        if fits.CONFIGURATIONS[self.name].seed is not None:
            seed = None
        if seed not in self.whole:
            task = self.task(seed)
            ended = run(task, self.log)
            bits = self.result(task, ended)
            if bits is None:
                return None
            self.whole[seed], self.seconds, self.n_changes = bits, ended.seconds, ended.n_changes
            bare = Task(self.name, task.result, None, seed)
            self.compare(self.result(bare, run(bare, self.log)), bits, "without checkpoints")
        return self.whole[seed]

    def task(self, seed: int | None = None) -> Task:
        """Return a task with a new folder."""
        self.n_folders += 1
        folder = self.folder / f"{self.name}-{self.n_folders}"
        folder.mkdir()
        return Task(self.name, str(folder.with_suffix(".json")), str(folder), seed)

    def result(self, task: Task, ended: Ended) -> dict[str, str] | None:
        """Return what a process wrote when it was done."""
        path = Path(task.result)
        if ended.status != 0 or not path.exists():
            last = self.log.read_text()[-3000:] if self.log.exists() else ""
            self.counts.wrong("failed", f"{self.name}: status {ended.status}\n{last}")
            return None
        import_all(json.loads(path.with_suffix(".modules").read_text()))
        bits = json.loads(path.read_text())
        path.unlink()
        return bits

    def moment(self) -> Kill:
        """Draw when to kill: on average four times in the time that a fit takes."""
        kind, rng = self.rng.random(), self.rng
        if kind < 0.5:
            return Kill(rng.expovariate(4 / self.seconds))
        if kind < 0.9:
            return Kill(rng.uniform(0, 1e-3), 1 + int(rng.expovariate(4 / self.n_changes)))
        return Kill(rng.uniform(0, 0.05))

    def until_done(self, n_kills: int) -> None:
        """Kill a fit at most so often, then let it end, and compare."""
        counts, task = self.counts, self.task()
        folder = Path(task.folder or "")
        newest, reported, at = look(folder), NOWHERE, n_kills
        for at in range(n_kills + 1):
            kill = self.moment() if at < n_kills else None
            fresh = self.rng.random() < self.FRESH
            ended = run(task, self.log, kill, fresh)
            counts.of["starts"] += 1
            counts.of["fresh"] += fresh
            self.check_went_on(ended, newest)
            reported = max([reported, *(place_of(saved) for _, _, saved in ended.told)])
            newest = look(folder)
            self.check_folder(newest, reported)
            if not ended.killed or kill is None:
                break
            moment = "mid" if ended.told and ended.told[-1][0] == "in an epoch" else "between"
            counts.of["save" if newest.in_save else moment] += 1
        bits = self.result(task, ended)
        if bits is not None:
            counts.of["ends"] += 1
            if newest.in_save:
                counts.wrong("damaged", f"{self.name}: left over in the end: {names_in(folder)}")
            self.compare(bits, self.uninterrupted(int(bits["seed"])), f"after {at} kills")

    def check_went_on(self, ended: Ended, before: Look) -> None:
        """Check that the fit went on from the newest checkpoint."""
        begun = [step for place, step, _ in ended.told if place == "begins"]
        if begun and begun[0] != before.global_step:
            self.counts.wrong(
                "lost", f"{self.name}: began at batch {begun[0]}, not {before.global_step}"
            )

    def check_folder(self, found: Look, reported: Place) -> None:
        """Check what is in the folder after a kill."""
        for told in found.damaged:
            self.counts.wrong("damaged", f"{self.name}: {told}")
        if found.newest < reported:
            self.counts.wrong("lost", f"{self.name}: {reported} was saved, {found.newest} is there")

    def compare(
        self, bits: dict[str, str] | None, whole: dict[str, str] | None, which: str
    ) -> None:
        """Compare with a fit that nobody killed."""
        if bits is None or whole is None:
            return
        if which == "without checkpoints":
            bits, whole = ({k: v for k, v in b.items() if counted(k)} for b in (bits, whole))
        places = [place for place in {**whole, **bits} if whole.get(place) != bits.get(place)]
        if places:
            told = "; ".join(f"{p}: {whole.get(p)} / {bits.get(p)}" for p in places[:5])
            n = len(places)
            self.counts.wrong("unequal", f"{self.name} {which}: {n} places differ: {told:.1500}")


def counted(place: str) -> bool:
    """Whether a fit without checkpoints has this place too."""
    return place != "callbacks" and not place.startswith("callbacks.checkpoint")


def names_in(folder: Path) -> list[str]:
    """Return the names of the files."""
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------ report


def table(found: dict[str, Counts]) -> str:
    """Return the figures, a configuration a line."""
    of = ("kills", *PROBLEMS, *MOMENTS, "ends")
    heads = {"ends": "fits done", "kills": "kills"}
    heads |= MOMENTS | PROBLEMS
    lines = [["fit", "checkpoints", *(heads[name] for name in of)]]
    lines += [["---"] * 2 + ["--:"] * len(of)]
    total: Counter[str] = Counter()
    for name, counts in found.items():
        configuration = fits.CONFIGURATIONS[name]
        numbers = {**counts.of, "kills": counts.kills}
        total.update(numbers)
        figures = [str(numbers.get(each, 0)) for each in of]
        lines.append([configuration.what, saves_told(configuration.saves), *figures])
    lines.append(["**all**", "", *(f"**{total[each]}**" for each in of)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def saves_told(saves: Any) -> str:
    """Return in words when a configuration saves."""
    every, unit = saves.get("every", 1), saves.get("unit", "epoch")
    several = {"epoch": "epochs", "batch": "batches", "second": "s"}[unit]
    told = f"every {unit}" if every == 1 else f"every {every} {several}"
    told += f", {saves['keep']} kept" if "keep" in saves else ""
    return told + (", the best" if "monitor" in saves else "")


def put_on_page(page: str, figures: str) -> str:
    """Return a page with the figures between its two marks."""
    before, _, rest = page.partition(MARKS[0])
    _, found, after = rest.partition(MARKS[1])
    if not found:
        raise ValueError(f"The page has no lines {MARKS[0]} and {MARKS[1]}.")
    return f"{before}{MARKS[0]}\n\n{figures}\n\n{MARKS[1]}{after}"


def measure(names: Sequence[str], n_kills: int, seed: int) -> dict[str, Counts]:
    """Kill so often in all, as many times in each configuration."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        # what a first fit imports is then there, and times are those of the others
        Runs(names[0], Path(tempfile.mkdtemp(dir=folder)), random.Random()).uninterrupted(1)
        for number, name in enumerate(names):
            share = n_kills * (number + 1) // len(names) - n_kills * number // len(names)
            started = time.perf_counter()
            runs = Runs(name, Path(folder), random.Random(f"{seed} {name}"))
            found[name] = counts = runs.do(share)
            took = time.perf_counter() - started
            told = ", ".join(f"{count} {what}" for what, count in sorted(counts.of.items()))
            print(f"{name}: {counts.kills} kills in {took:.0f} s ({told})", flush=True)
            for problem in counts.told:
                print(f"  {problem}", flush=True)
    return found


def main(said: Iterable[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(fits.CONFIGURATIONS))
    parser.add_argument("--docs", type=Path, help="the page that the figures are put on")
    args = parser.parse_args(None if said is None else list(said))
    started = time.perf_counter()
    found = measure(args.only, args.kills, args.seed)
    figures = table(found)
    took = time.perf_counter() - started
    ran = f"`python benchmarks/kills.py --kills {args.kills} --seed {args.seed}`, {took:.0f} s"
    on = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    when = datetime.date.today().isoformat()
    starts, fresh = (sum(c.of[name] for c in found.values()) for name in ("starts", "fresh"))
    figures += f"\n\n{starts} processes, {fresh} of them new interpreters. "
    figures += f"{ran}, on {when}: {on}, torch {version('torch')}."
    print(f"\n{figures}")
    if args.docs is not None:
        args.docs.write_text(put_on_page(args.docs.read_text(), figures))
    fell_short = sum(counts.kills for counts in found.values()) < args.kills
    return int(fell_short or any(counts.told for counts in found.values()))


if __name__ == "__main__":
    sys.exit(main())
