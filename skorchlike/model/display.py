"""Pictures of the history: losses, metrics, learning rate over the epochs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from skorchlike.exceptions import ParameterError, did_you_mean, import_extra
from skorchlike.model.finding import best_epoch, find_net, find_nets
from skorchlike.model.history import history_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# both palettes are told apart by the colour-blind too (M. Okabe, K. Ito, 2002)
PHASES = {"train": "#0072B2", "valid": "#D55E00"}
FITS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
NOT_DRAWN = ("epoch", "duration")  # unless named
LOGARITHMIC = ("loss", "lr")


class HistoryDisplay:
    """Losses, metrics and learning rate over the epochs, of one fit or of several.

    Make one by `from_estimator` or `from_estimators`. It follows scikit-learn's
    convention for displays: what is drawn is kept, and `plot` draws it again.

    Parameters
    ----------
    histories : DataFrame, dict of str to DataFrame, or list of DataFrame
        The ``history_`` of a fit, or of several by their labels. A list of records, as
        ``model_.history_`` has it, will do for each.
    best_epochs : dict of str to int, default=None
        Label → the epoch to be marked. The label of a single history is ``"fit"``.

    Attributes
    ----------
    histories : dict of str to DataFrame
        Label → history.
    best_epochs : dict of str to int
        Label → best epoch, for the fits that have one.
    figure_ : matplotlib.figure.Figure
        The figure; after `plot`, as the following.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels.
    ax_ : matplotlib.axes.Axes
        The first panel.
    lines_ : dict of str to dict of str to matplotlib.lines.Line2D
        ``lines_[column][label]`` is the line of one column of one fit.

    Raises
    ------
    ParameterError
        If there is no history, or one is no table with a column ``epoch``.

    See Also
    --------
    LivePlot : The callback that draws while the fit runs.
    sklearn.model_selection.LearningCurveDisplay : Scores over the number of rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import HistoryDisplay, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=5, validation_fraction=0.2, random_state=0)
    >>> display = HistoryDisplay.from_estimator(net.fit(X, y), columns=["loss", "accuracy"])
    >>> [axes.get_ylabel() for axes in display.axes_], list(display.lines_)
    (['loss', 'accuracy'], ['train_loss', 'valid_loss', 'valid_accuracy'])
    """

    def __init__(self, histories: Any, *, best_epochs: Mapping[str, int] | None = None) -> None:
        self.histories = _labelled(histories)
        self.best_epochs = dict(best_epochs or {})
        for label in self.best_epochs:
            if label not in self.histories:
                hint = did_you_mean(label, self.histories)
                raise ParameterError(f"best_epochs names no history: {label!r}.{hint}")

    @classmethod
    def from_estimator(cls, estimator: Any, **plot: Any) -> HistoryDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted neural net; or a Pipeline that ends in one, a search
            (``best_estimator_``), a TransformedTargetRegressor, ... around one.
        **plot : dict
            Arguments of `plot`: columns, ax, log_scale, mark_best, line_kw.

        Returns
        -------
        HistoryDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ParameterError
            If there is no neural net in it, or `plot` cannot draw it.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from skorchlike import HistoryDisplay, NeuralNetClassifier
        >>> pipe = make_pipeline(StandardScaler(), NeuralNetClassifier(max_epochs=3))
        >>> pipe = pipe.fit(*load_iris(return_X_y=True))
        >>> display = HistoryDisplay.from_estimator(pipe, log_scale=True)
        >>> display.ax_.get_yscale()
        'log'
        """
        if isinstance(estimator, (Mapping, list, tuple, np.ndarray)):
            raise ParameterError(
                "HistoryDisplay.from_estimator takes one estimator. Got a "
                f"{type(estimator).__name__}: use HistoryDisplay.from_estimators."
            )
        return cls._of_nets({"fit": find_net(estimator)}, plot)

    @classmethod
    def from_estimators(cls, estimators: Any, **plot: Any) -> HistoryDisplay:
        """Draw the histories of several fitted estimators over each other.

        Parameters
        ----------
        estimators : dict of str to estimator, or sequence of estimator
            Fitted estimators, such as `from_estimator` takes, by their labels; those of a
            sequence are called ``"fit 1"``, ``"fit 2"``, ... What
            ``cross_validate(..., return_estimator=True)`` returns will do as well.
        **plot : dict
            Arguments of `plot`: columns, ax, log_scale, mark_best, line_kw.

        Returns
        -------
        HistoryDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        ParameterError
            If there are none, one of them holds no neural net, or `plot` cannot draw them.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import cross_validate
        >>> from skorchlike import HistoryDisplay, NeuralNetClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> folds = cross_validate(
        ...     NeuralNetClassifier(max_epochs=3), X, y, cv=3, return_estimator=True
        ... )
        >>> display = HistoryDisplay.from_estimators(folds, columns="loss")
        >>> list(display.lines_["train_loss"])
        ['fit 1', 'fit 2', 'fit 3']
        """
        return cls._of_nets(find_nets(estimators), plot)

    @classmethod
    def _of_nets(cls, nets: Mapping[str, Any], plot: Mapping[str, Any]) -> HistoryDisplay:
        best = {label: best_epoch(net) for label, net in nets.items()}
        display = cls(
            {label: net.history_ for label, net in nets.items()},
            best_epochs={label: epoch for label, epoch in best.items() if epoch is not None},
        )
        return display.plot(**plot)

    def plot(
        self,
        *,
        columns: str | Sequence[str] | None = None,
        ax: Any = None,
        log_scale: bool | str | Sequence[str] = False,
        mark_best: bool = True,
        line_kw: Mapping[str, Any] | None = None,
    ) -> HistoryDisplay:
        """Draw the histories.

        Parameters
        ----------
        columns : str, sequence of str or None, default=None
            What to draw: columns of the history (``"valid_loss"``), or quantities (``"loss"``
            is ``train_loss`` and ``valid_loss``), which share a panel. None draws the losses,
            the metrics, then all other columns that hold numbers but ``duration``, and the
            lr.
        ax : matplotlib.axes.Axes or sequence of them, default=None
            Where to draw: one for each panel, or one whose place several panels share. By
            default a new figure of pyplot.
        log_scale : bool, str or sequence of str, default=False
            Which quantities have a logarithmic axis. True is loss and lr, each unless it has
            values that are not positive.
        mark_best : bool, default=True
            Whether to put a point on the validation curves at the best epoch, as
            `EarlyStopping` kept it.
        line_kw : dict, default=None
            Arguments for all lines, as matplotlib's ``plot`` takes them.

        Returns
        -------
        HistoryDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``plot``).
        ParameterError
            If a column is unknown or holds no numbers, if there is nothing to draw, or if
            `ax` has another number of axes than there are panels.

        Notes
        -----
        Epochs that lack a column (those without validation, say) are passed over, and their
        neighbours joined. Values that are no finite numbers are not drawn.
        """
        pyplot = import_extra("matplotlib.pyplot", "plot", "HistoryDisplay")
        points = _all_points(self.histories)
        panels = _panels(columns, points, self.histories)
        logarithmic = _check_log_scale(log_scale, panels, points)
        own_figure = ax is None
        self.axes_ = _make_axes(pyplot, ax, len(panels))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_: dict[str, dict[str, Any]] = {}
        colours = _colours(self.histories)
        best = self.best_epochs if mark_best else {}
        marked = False
        for axes, (quantity, names) in zip(self.axes_, panels.items(), strict=True):
            for name in names:
                drawn = {k: points[name][k] for k in self.histories if k in points[name]}
                self.lines_[name] = {}
                for label, (epochs, values) in drawn.items():
                    style = _style(name, label, colours, self.histories[label], epochs)
                    (line,) = axes.plot(epochs, values, **{**style, **(line_kw or {})})
                    self.lines_[name][label] = line
                    if best.get(label) in epochs and _phase(name) == "valid":
                        at = values[epochs.index(best[label])]
                        _mark(axes, best[label], at, line.get_color())
                        marked = True
            axes.set(xlabel="epoch", ylabel=quantity)
            if quantity in logarithmic:
                axes.set_yscale("log")
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.spines[["top", "right"]].set_visible(False)
        _add_legend(self.axes_, self.lines_, colours, marked, beside=own_figure)
        return self


# ------------------------------------------------------------------- finding what to draw


def _labelled(histories: Any) -> dict[str, pd.DataFrame]:
    if isinstance(histories, list) and histories and isinstance(histories[0], Mapping):
        histories = {"fit": histories}  # the records of one fit
    elif hasattr(histories, "columns"):
        histories = {"fit": histories}
    elif isinstance(histories, (list, tuple)):
        histories = {f"fit {i}": each for i, each in enumerate(histories, start=1)}
    if not isinstance(histories, Mapping) or not histories:
        what = "an empty one" if isinstance(histories, Mapping) else f"{type(histories).__name__}"
        raise ParameterError(
            f"HistoryDisplay needs a history, or a dict or a list of histories of fits. Got {what}."
        )
    frames = {}
    for label, history in histories.items():
        if isinstance(history, list):
            history = history_frame(history)
        if "epoch" not in getattr(history, "columns", ()):
            raise ParameterError(
                "A history must be a DataFrame with a column 'epoch', such as history_ of a "
                f"fitted estimator. Got {type(history).__name__} for {label!r}."
            )
        frames[str(label)] = history
    return frames


Points = dict[str, dict[str, tuple[list[float], list[float]]]]


def _all_points(histories: Mapping[str, pd.DataFrame]) -> Points:
    """Return column → label → the epochs that have a number there, and the numbers."""
    points: Points = {}
    for label, history in histories.items():
        for name in history.columns:
            pairs = zip(history["epoch"].tolist(), history[name].tolist(), strict=True)
            known = [(e, v) for e, v in pairs if isinstance(v, Real) and math.isfinite(v)]
            if known:
                epochs, values = zip(*known, strict=True)
                points.setdefault(name, {})[label] = (list(epochs), [float(v) for v in values])
    return points


def _panels(
    said: Any, points: Points, histories: Mapping[str, pd.DataFrame]
) -> dict[str, list[str]]:
    """Return quantity → its columns, in the order of the panels."""
    there = list(dict.fromkeys(name for h in histories.values() for name in h.columns))
    if said is None:
        names = [name for name in there if name in points and name not in NOT_DRAWN]
        names.sort(key=_rank)
    else:
        names = _check_columns(said, points, there)
    if not names:
        raise ParameterError(
            "There is nothing to draw: the history has "
            f"{'no epochs' if not any(map(len, histories.values())) else 'no finite numbers'}."
        )
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(_quantity(name), []).append(name)
    return panels


def _rank(name: str) -> int:
    quantity = _quantity(name)
    return 0 if quantity == "loss" else 1 if _phase(name) else 2 if quantity != "lr" else 3


def _check_columns(said: Any, points: Points, there: Sequence[str]) -> list[str]:
    given = [said] if isinstance(said, str) else list(said) if isinstance(said, Sequence) else []
    if not given or not all(isinstance(name, str) for name in given):
        raise ParameterError(
            "The 'columns' of HistoryDisplay must name one or more columns of the history, such "
            f"as ['loss', 'valid_accuracy']. Got {said!r}."
        )
    names: list[str] = []
    for name in given:
        found = [name] if name in there else [n for n in there if _quantity(n) == name]
        if not found:
            hint = did_you_mean(name, {*there, *map(_quantity, there)})
            raise ParameterError(f"The history has no column {name!r}.{hint}")
        drawable = [n for n in found if n in points]
        if not drawable:
            raise ParameterError(
                f"The column {name!r} of the history holds no finite number that could be drawn."
            )
        names.extend(drawable)
    return list(dict.fromkeys(names))


def _check_log_scale(
    said: Any, panels: Mapping[str, Sequence[str]], points: Points
) -> Collection[str]:
    """Return the quantities whose axis is logarithmic."""
    positive = {
        quantity
        for quantity, names in panels.items()
        if all(min(values) > 0 for name in names for _, values in points[name].values())
    }
    if isinstance(said, (bool, np.bool_)):
        return positive.intersection(LOGARITHMIC) if said else ()
    named = [said] if isinstance(said, str) else list(said)
    for quantity in named:
        if quantity not in panels:
            hint = did_you_mean(quantity, panels)
            raise ParameterError(f"`log_scale` names no panel that is drawn: {quantity!r}.{hint}")
        if quantity not in positive:
            raise ParameterError(
                f"`log_scale` needs positive values. {quantity!r} has others: leave it out."
            )
    return named


# ------------------------------------------------------------------------------- drawing


def _phase(name: str) -> str:
    phase, _, quantity = name.partition("_")
    return phase if phase in PHASES and quantity else ""


def _quantity(name: str) -> str:
    return name.removeprefix("train_").removeprefix("valid_")


def _make_axes(pyplot: Any, ax: Any, n: int) -> np.ndarray:
    """Return the axes of the panels."""
    n_wide = n if n <= 3 else 2 if n == 4 else 3
    n_high = -(-n // n_wide)
    if ax is None:
        size = (max(5.0, 3.5 * n_wide), 3.0 * n_high)
        _, axes = pyplot.subplots(n_high, n_wide, figsize=size, layout="constrained", squeeze=False)
        for empty in axes.ravel()[n:]:
            empty.remove()
        return axes.ravel()[:n]
    if hasattr(ax, "plot"):
        if n == 1:
            return np.array([ax])
        ax.set_axis_off()  # it only marks the place, as in scikit-learn's partial dependence
        grid = ax.get_subplotspec().subgridspec(n_high, n_wide, wspace=0.4, hspace=0.4)
        return np.array([ax.figure.add_subplot(grid[i // n_wide, i % n_wide]) for i in range(n)])
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) != n:
        raise ParameterError(
            f"`ax` must be one for each of the {n} panels, or one for all. Got {len(axes)}."
        )
    return axes


def _colours(labels: Collection[str]) -> dict[str, Any]:
    """Return label → colour; of a single fit no colour, since there it tells the phase."""
    if len(labels) == 1:
        return {}
    if len(labels) <= len(FITS):
        return dict(zip(labels, cycle(FITS), strict=False))
    mpl = import_extra("matplotlib", "plot", "HistoryDisplay")
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(labels)))
    return dict(zip(labels, shades, strict=True))


def _style(
    name: str,
    label: str,
    colours: Mapping[str, Any],
    history: pd.DataFrame,
    epochs: Sequence[float],
) -> dict[str, Any]:
    phase = _phase(name)
    style: dict[str, Any] = {"color": colours.get(label, PHASES.get(phase, "0.3"))}
    style["label"] = f"{label}: {name}" if colours else name
    if colours:
        style["linestyle"] = "--" if phase == "train" else "-"
        style["linewidth"] = 1.2
    if len(epochs) < len(history) or len(epochs) == 1:
        style["marker"] = "."  # which epochs have a value; a single one would not be seen
    return style


def _mark(axes: Axes, epoch: float, value: float, colour: Any) -> None:
    axes.plot(
        [epoch], [value], marker="o", color=colour, markeredgecolor="white", label="_best", zorder=5
    )


def _add_legend(
    panels: np.ndarray,
    lines: Mapping[str, Any],
    colours: Mapping[str, Any],
    marked: bool,
    *,
    beside: bool,
) -> None:
    """Explain the lines once: colours of fits, and what train, valid and the point look like."""
    line = import_extra("matplotlib.lines", "plot", "HistoryDisplay").Line2D
    phases = dict.fromkeys(_phase(name) for name in lines if _phase(name))
    handles = [line([], [], color=colour, label=label) for label, colour in colours.items()]
    for phase in phases:
        if colours:
            style = {"color": "0.3", "linestyle": "--" if phase == "train" else "-"}
        else:
            style = {"color": PHASES[phase]}
        handles.append(line([], [], label=phase, **style))
    if marked:
        colour = "0.3" if colours else PHASES["valid"]
        handles.append(line([], [], ls="", marker="o", color=colour, label="best epoch"))
    if not handles:
        return
    if colours and beside:
        panels[0].figure.legend(
            handles=handles, loc="outside right upper", frameon=False, ncols=-(-len(handles) // 16)
        )
    else:
        panels[0].legend(handles=handles, frameon=False, ncols=-(-len(handles) // 12))
