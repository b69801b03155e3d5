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

GREY, ORANGE, BLUE = "#767676", "#d8611f", "#4b8fc4"
"""Seen on white and on dark pages (the grey at 4 to 1 and more); the background is transparent."""

STYLE = {
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlepad": 8,
    "font.size": 11,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "skorchlike",  # the same file from the same records
}


def fits(records: Records) -> Any:
    """Draw a panel of bars for each workload: full fits as ratios to R."""
    from matplotlib.figure import Figure

    found = records["fits"]["result"]
    every = [entry["contenders"] for entry in found.values()]
    names = [n for n in dict.fromkeys(n for one in every for n in one) if n != REFERENCE]
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(-(-len(found) // 2), 2, sharey=True, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, entry in zip(panels, found.values(), strict=False):
        for row, name in enumerate(names):
            if name in entry["contenders"]:
                to_reference = entry["contenders"][name]["to_reference"]
                _bar(axes, row, to_reference, ORANGE if name in (OWN, BUILT_IN) else BLUE)
        axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1.3 * axes.get_xlim()[1])  # room for the numbers
        axes.set_title(_title(entry["work"]), loc="left")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.supxlabel("full fit ÷ raw loop R (dotted)", color=GREY)
    return figure


def _title(work: str) -> str:
    """Return a workload's name, layers and batch: neither rows nor classes nor steps."""
    name, sizes = work.split(": ")
    _rows, _classes, layers, batch, *_ = sizes.split(", ")
    return f"{name}: {layers}, {batch}"


def _bar(axes: Any, row: int, to_reference: dict[str, float], color: str) -> None:
    """Draw the median, with a line from quartile to quartile, and write it down."""
    low, median, high = (to_reference[name] for name in ("low", "median", "high"))
    axes.barh(row, median, color=color, height=0.7)
    axes.plot([low, high], [row, row], color=GREY, linewidth=1.2)
    axes.annotate(
        f"{median:.2f}",
        (max(median, high), row),
        xytext=(4, 0),  # away from the line's end, which beside a digit reads as a minus
        textcoords="offset points",
        va="center",
    )


def scaling(records: Records) -> Any:
    """Draw a panel for each axis: the seconds measured, and the line through them."""
    from matplotlib.figure import Figure

    found = records["scaling"]["result"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    places = figure.subplots(len(found) // 3 + 1, 3, squeeze=False).ravel()  # one for the legend
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
        axes.set_title(
            f"{OWN}: R² {ours['r2']:.4f}\noff by {100 * ours['off']:.1f} % at most", loc="left"
        )
        axes.set_xlabel(name)
        axes.set_ylabel("seconds a fit")
    places[-1].legend(*places[0].get_legend_handles_labels(), frameon=False, loc="center")
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
