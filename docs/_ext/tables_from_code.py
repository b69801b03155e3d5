"""Directives that make tables of the documentation from the package's own code.

``stage-table`` and ``cancel-table`` are made from ``skorchlike.training.stages.TABLE``,
``context-table`` from the class ``Context``, ``order-table`` from the built-in callbacks.
"""

import inspect
import re

from docutils import nodes
from docutils.parsers.rst import directives
from numpydoc.docscrape import ClassDoc
from sphinx.util.docutils import SphinxDirective

import skorchlike
from skorchlike import Callback, Context
from skorchlike.training.context import ASSIGNABLE
from skorchlike.training.stages import TABLE

# what opens a level: its depth, and the line of pseudo-code that stands above it
LEVELS = {
    "fit": (0, ""),
    "epoch": (1, "for each epoch"),
    "train": (1, ""),
    "train_batch": (2, "for each training batch"),
    "valid": (2, ""),
    "valid_batch": (3, "for each validation batch"),
    "predict": (0, ""),
    "predict_batch": (1, "for each batch"),
}
PHASE_HEADINGS = {"on_valid_begin": (1, "when the epoch validates")}


# ------------------------------------------------------------------ building


def inline(text):
    """Return nodes for a text in which backticks mark code."""
    for i, part in enumerate(re.split(r"`+", text)):
        if part:
            yield nodes.literal(part, part) if i % 2 else nodes.Text(part)


def entry(*content, **attributes):
    """Return a cell."""
    cell = nodes.entry(**attributes)
    cell += nodes.paragraph("", "", *content)
    return cell


def row(cells, classes=()):
    """Return a row of cells."""
    return nodes.row("", *cells, classes=list(classes))


def table(headings, widths, rows, classes):
    """Return a table."""
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", row([entry(nodes.Text(text)) for text in headings]))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["from-code", *classes])


def code(name):
    return nodes.literal(name, name)


# ---------------------------------------------------------------- directives


class StageTable(SphinxDirective):
    """The stages and actions of a fit or of a prediction, with their names elsewhere."""

    option_spec = {"phase": lambda value: directives.choice(value, ("fit", "predict"))}  # noqa: RUF012

    def run(self):
        in_predict = self.options.get("phase", "fit") == "predict"
        rows, depth_before = [], 0
        for stage in TABLE:
            if ("predict" in stage.phases) != in_predict:
                continue
            depth, opening = LEVELS[stage.level]
            if stage.name in PHASE_HEADINGS:
                rows.append(self.heading(*PHASE_HEADINGS[stage.name]))
            elif opening and depth > depth_before:
                rows.append(self.heading(depth - 1, opening))
            rows.append(self.stage_row(stage, depth))
            depth_before = depth
        headings = ["Stage or action", "When it runs", "mlr3torch", "luz", "miniai"]
        if in_predict:  # mlr3torch and miniai have no callbacks in prediction
            headings = [*headings[:2], "luz"]
        return [table(headings, [26, 34, 18, 22, 20][: len(headings)], rows, ["stages"])]

    def heading(self, depth, text):
        cell = entry(nodes.emphasis(text, text), classes=[f"depth-{depth}"], morecols=4)
        if self.options.get("phase") == "predict":
            cell["morecols"] = 2
        return row([cell], ["level"])

    def stage_row(self, stage, depth):
        name = entry(code(stage.name), classes=[f"depth-{depth}"])
        others = [stage.mlr3torch, stage.luz, stage.miniai]
        if self.options.get("phase") == "predict":
            others = [stage.luz]
        cells = [name, entry(*inline(stage.meaning))]
        for other in others:
            foreign, _, remark = other.partition(" ")
            content = [code(foreign), nodes.Text(f" {remark}")] if foreign else []
            cells.append(entry(*content))
        return row(cells, ["action" if stage.is_action else "exit" if stage.is_exit else "stage"])


class CancelTable(SphinxDirective):
    """Which cancel exceptions have a meaning at which stage."""

    def run(self):
        groups = {}
        for stage in TABLE:
            if stage.is_action or "predict" in stage.phases:
                continue
            groups.setdefault(stage.cancels, []).append(stage.name)
        rows = []
        for cancels in sorted(groups, key=len, reverse=True):
            allowed = [code(name) for name in reversed(cancels)] or [nodes.Text("none")]
            rows.append(row([entry(*spaced(allowed)), entry(*spaced(map(code, groups[cancels])))]))
        return [table(["Allowed", "at these stages"], [30, 70], rows, ["cancels"])]


def spaced(parts):
    """Put commas between nodes."""
    for i, part in enumerate(parts):
        if i:
            yield nodes.Text(", ")
        yield part


class ContextTable(SphinxDirective):
    """The fields and methods of the context, as its class describes them."""

    def run(self):
        rows = []
        for name, field in vars(Context).items():
            if isinstance(field, property):
                rows.append(self.field(name, "read", inspect.getdoc(field)))
        described = {item.name: " ".join(item.desc) for item in ClassDoc(Context)["Attributes"]}
        rows += [self.field(name, "read, assign", described[name]) for name in ASSIGNABLE]
        for name, method in vars(Context).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                said = ", ".join(list(inspect.signature(method).parameters)[1:])
                rows.append(self.field(f"{name}({said})", "call", inspect.getdoc(method)))
        return [table(["Field", "May be", "Is"], [26, 14, 60], rows, ["context"])]

    def field(self, name, use, text):
        summary = text.split("\n\n")[0].replace("\n", " ")
        return row([entry(code(name)), entry(nodes.Text(use)), entry(*inline(summary))])


class OrderTable(SphinxDirective):
    """The built-in callbacks in the order in which they run."""

    def run(self):
        groups = {}
        for cls in BUILT_IN:
            order = "30, for a plateau 90" if isinstance(cls.order, property) else f"{cls.order:g}"
            groups.setdefault(order, []).append(cls)
        rows = []
        for order, classes in sorted(groups.items(), key=lambda item: float(item[0].split(",")[0])):
            passive = "yes" if all(cls.passive for cls in classes) else ""
            names = spaced([code(cls.__name__) for cls in classes])
            rows.append(row([entry(nodes.Text(order)), entry(*names), entry(nodes.Text(passive))]))
        return [table(["Order", "Callbacks", "Only watch"], [20, 65, 15], rows, ["order"])]


BUILT_IN = [
    value
    for value in (getattr(skorchlike, name) for name in skorchlike.__all__)
    if isinstance(value, type) and issubclass(value, Callback) and value is not Callback
]


def setup(app):
    app.add_directive("order-table", OrderTable)
    app.add_directive("stage-table", StageTable)
    app.add_directive("cancel-table", CancelTable)
    app.add_directive("context-table", ContextTable)
    return {"parallel_read_safe": True}
