"""The figures of the page on speed, drawn from the stored records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from contenders import BUILT_IN, OWN, REFERENCE

Records = dict[str, dict[str, Any]]

GREY, ORANGE, BLUE = "#7c7c7c", "#d8611f", "#4b8fc4"
"""Seen on white and on black; the background is transparent."""

STYLE = {
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "skorchlike",  # the same file from the same records
}


def fits(records: Records) -> Any:
    """Draw a panel of bars for each workload: full fits as ratios to R."""
    from matplotlib.figure import Figure

    found = records["fits"]["result"]
    every = [entry["contenders"] for entry in found.values()]
    names = [n for n in dict.fromkeys(n for one in every for n in one) if n != REFERENCE]
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (work, entry) in zip(panels, found.items(), strict=True):
        for row, name in enumerate(names):
            if name in entry["contenders"]:
                to_reference = entry["contenders"][name]["to_reference"]
                _bar(axes, row, to_reference, ORANGE if name in (OWN, BUILT_IN) else BLUE)
        axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1.3 * axes.get_xlim()[1])  # room for the numbers
        axes.set_title(work, loc="left")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.supxlabel("full fit ÷ raw loop R (dotted)", color=GREY, fontsize=9)
    return figure


def _bar(axes: Any, row: int, to_reference: dict[str, float], color: str) -> None:
    """Draw the median, with a line from quartile to quartile, and write it down."""
    low, median, high = (to_reference[name] for name in ("low", "median", "high"))
    axes.barh(row, median, color=color, height=0.7)
    axes.plot([low, high], [row, row], color=GREY, linewidth=1.2)
    axes.text(max(median, high), row, f" {median:.2f}", va="center", fontsize=8)


def scaling(records: Records) -> Any:
    """Draw a panel for each axis: the seconds measured, and the line through them."""
    from matplotlib.figure import Figure

    found = records["scaling"]["result"]
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    places = figure.subplots(2, 3).ravel()
    for place in places[len(found) :]:
        place.set_axis_off()
    for axes, (name, axis) in zip(places, found.items(), strict=False):
        values = np.array(axis["values"], float)
        for contender, color in ((REFERENCE, BLUE), (OWN, ORANGE)):
            entry = axis["contenders"].get(contender)
            if entry is None:
                continue
            axes.plot(values, entry["seconds"], "o", color=color, markersize=4, label=contender)
            x = np.geomspace(values[0], values[-1], 100) if values[0] else values
            axes.plot(x, entry["fixed"] + entry["slope"] * x, color=color, linewidth=1)
        ours = axis["contenders"][OWN]
        _scale(axes, values)
        fitted = f"R² {ours['r2']:.4f}, off by {100 * ours['off']:.1f} % at most"
        axes.set_title(f"{name}\n{fitted}", loc="left", fontsize=9)
        axes.set_ylabel("seconds a fit")
    places[0].legend(frameon=False)
    return figure


def _scale(axes: Any, values: np.ndarray) -> None:
    """Take logarithms of what grows over more than two decades; else begin at zero."""
    if values[0] and values[-1] / values[0] > 100:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])


FIGURES: dict[str, Callable[[Records], Any]] = {"fits": fits, "scaling": scaling}


def mark(records: Records, section: str) -> str:
    """Return the sign, kept in the file, of the record that a figure was drawn from."""
    text = json.dumps(records[section], sort_keys=True)
    return f"{section} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def draw(records: Records, folder: Path) -> list[Path]:
    """Save as SVG the figures of the sections that there are."""
    paths = []
    for name in (name for name in FIGURES if name in records):
        with mpl.rc_context(STYLE):
            path = folder / f"benchmarks_{name}.svg"
            about = {"Date": None, "Description": mark(records, name)}
            FIGURES[name](records).savefig(path, transparent=True, metadata=about)
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
