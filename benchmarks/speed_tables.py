"""The tables of the speed benchmarks, in Markdown, from the stored records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import verdicts

Records = dict[str, dict[str, Any]]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns stand one below the other also as plain text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    padded.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def spread(values: dict[str, float], places: int = 2) -> list[str]:
    """Return median, quartiles and extremes as cells."""
    shown = {name: f"{value:.{places}f}" for name, value in values.items()}
    quartiles, extremes = (("low", "high"), ("least", "most"))
    return [
        shown["median"],
        *(" to ".join(shown[n] for n in pair) for pair in (quartiles, extremes)),
    ]


def number(value: float) -> str:
    """Return three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


SPREAD = ("median", "quartiles", "extremes")

FAR_APART = 2
"""A row whose extremes are more than this factor apart was disturbed, and is marked."""
DISTURBED = ", disturbed"
ON_DISTURBED = (
    f"Disturbed: extremes more than a factor of {FAR_APART} apart. In one round or more this fit, "
    "or R beside it, stalled; the median is of all rounds."
)


def fits(result: dict[str, Any]) -> str:
    """Return a table for each workload: the full fits as ratios to R, and to our two."""
    parts = []
    for found in result.values():
        rows = []
        for name, entry in found["contenders"].items():
            ours = [
                f"{entry[key]['median']:.2f}" if key in entry else ""
                for key in ("to_own", "to_built_in")
            ]
            path = f" ({entry['path']})" if "path" in entry else ""
            to_reference = spread(entry["to_reference"])
            if _disturbed(entry["to_reference"]):
                to_reference[-1] += DISTURBED
            cpu, ms = f"{entry['cpu']:.2f}", f"{entry['ms']:.0f}"
            rows.append([f"{name}{path}", *to_reference, cpu, *ours, ms])
        head = ("full fit ÷ R", *SPREAD, "in CPU time", "÷ ours", "÷ ours, built-in", "ms")
        parts.append(f"{found['work']}; {_rounds(found)}.\n\n{markdown(head, rows)}")
        if any(_disturbed(entry["to_reference"]) for entry in found["contenders"].values()):
            parts.append(ON_DISTURBED)
    return "\n\n".join(parts)


def _disturbed(values: dict[str, float]) -> bool:
    return values["most"] > FAR_APART * values["least"]


def loop(result: dict[str, Any]) -> str:
    """Return what the loop itself costs a step."""
    rows = [
        [name, *spread(entry["us"]), f"{entry['cpu']:.2f}"]
        for name, entry in result["contenders"].items()
    ]
    table = markdown(("loop's own cost a step, µs", *SPREAD, "in CPU time"), rows)
    return f"{result['n_steps']:,} steps; {_rounds(result)}.\n\n{table}"


def prediction(result: dict[str, Any]) -> str:
    """Return a table for many rows and one for a single row."""
    parts = []
    for found in result.values():
        rows = [
            [name, *spread(entry["to_raw"]), f"{entry['cpu']:.2f}", number(entry["us"])]
            for name, entry in found["contenders"].items()
        ]
        n_rows = f"{found['n_rows']:,} row{'s' * (found['n_rows'] > 1)}"
        head = (f"predict_proba ÷ raw, {n_rows}", *SPREAD, "in CPU time", "µs")
        parts.append(f"{n_rows}; {_rounds(found)}.\n\n{markdown(head, rows)}")
    return "\n\n".join(parts)


def import_(result: dict[str, Any]) -> str:
    """Return what the import costs, and imports and a first fit together."""
    rows = []
    named = (("import alone", ""), ("imports and a first small fit", "first_fit_"))
    for name, prefix in named:
        if f"{prefix}to_base" in result:
            base, extra = result[f"{prefix}base_s"], result[f"{prefix}extra_ms"]
            cells = spread(result[f"{prefix}to_base"], 3)
            rows.append([name, *cells, f"{base:.2f}", f"{extra:.0f}"])
    head = ("skorchlike ÷ torch + sklearn.base", *SPREAD, "theirs, s", "on top, ms")
    return f"{_rounds(result)}.\n\n{markdown(head, rows)}"


def memory(result: dict[str, Any]) -> str:
    """Return the peaks of memory."""
    rows = []
    for case in result["cases"]:
        where = case["dtype"] if case["where"] == "memory" else f"{case['dtype']}, memory-mapped"
        both = case["data"] + case["model"]
        rows.append(
            [
                where,
                str(case["n_features"]),
                case["estimator"],
                case["module"],
                "a tenth" if case["validation"] else "none",
                "yes" if case["weights"] else "no",
                *(f"{case[name] / 1e6:.1f}" for name in ("data", "model", "fit")),
                f"{case['fit'] / both:.2f}",
                f"{case['predict'] / both:.2f}",
            ]
        )
    head = ("X", "features", "estimator", "module", "validation", "weights", "data, MB")
    ratios = ("fit ÷ (data + model)", "predict ÷ (data + model)")
    return markdown((*head, "model, MB", "fit, MB", *ratios), rows)


def scaling(result: dict[str, Any]) -> str:
    """Return the line through the fits of each axis."""
    rows = []
    for axis, found in result.items():
        low, high = min(found["values"]), max(found["values"])
        for name, entry in found["contenders"].items():
            cells = [f"{low:,} to {high:,} {axis}", name, number(entry["fixed"] * 1e3)]
            each = number(entry["slope"] * 1e6)
            rows.append([*cells, each, f"{entry['r2']:.4f}", f"{100 * entry['off']:.1f} %"])
    head = ("what grows", "fit", "fixed, ms", "for each one more, µs", "R²", "largest distance")
    return markdown(head, rows)


def verdict(records: Records) -> str:
    """Return what was to be reached, and what is."""
    return markdown(("what", "reach", "measured", "met?"), verdicts.verdicts(records))


def about(record: dict[str, Any]) -> str:
    """Say in a line where and when a section was measured."""
    where = record["about"]
    threads = f"{where['threads']} thread{'s' * (where['threads'] > 1)}"
    versions = ", ".join(
        f"{name} {version}"
        for name, version in where["versions"].items()
        if version != "not installed"
    )
    quick = " A quick run: few rounds, smaller sizes." if record["quick"] else ""
    return f"Measured on {where['date']}: {where['machine']}, {threads}, {versions}.{quick}"


def _rounds(found: dict[str, Any]) -> str:
    return f"{found['rounds']} round{'s' * (found['rounds'] > 1)}"


TABLES = {
    "fits": fits,
    "fits_two_threads": fits,
    "loop": loop,
    "prediction": prediction,
    "import": import_,
    "memory": memory,
    "scaling": scaling,
}


def section(name: str, records: Records) -> str:
    """Return a section's tables with where and when it was measured."""
    record = records[name]
    return f"{TABLES[name](record['result'])}\n\n{about(record)}"
