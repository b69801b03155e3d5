"""What a sweep over learning rates recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skorchlike.exceptions import import_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("lr", "loss", "smoothed")


class LRFinderResult(Bunch):
    """What a sweep over learning rates found: a dict whose keys are attributes too.

    Parameters
    ----------
    records : dict or DataFrame
        Its columns ``lr``, ``loss`` and ``smoothed``, a value a step.

    Attributes
    ----------
    suggestion : float or None
        The lr at which the smoothed loss falls most steeply; None if it falls nowhere.
    records : DataFrame
        A row a step: the `lr`, the `loss` of the batch, and the moving average `smoothed`.
        As an entry, ``result["records"]``, a dict of these columns as arrays.
    """

    def __init__(self, records: Any = ()) -> None:
        columns = {n: np.array(records[n] if len(records) else [], float) for n in COLUMNS}
        super().__init__(suggestion=_steepest(columns), records=columns)

    @property
    def records(self) -> pd.DataFrame:
        """The records as a table."""
        import pandas as pd  # costs half a second

        return pd.DataFrame(self["records"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the lr on a logarithmic axis, and mark the suggestion.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``plot``).
        """
        if ax is None:
            pyplot = import_extra("matplotlib.pyplot", "plot", "LRFinderResult.plot")
            ax = pyplot.subplots()[1]
        records = self.records
        ax.plot(records["lr"], records["loss"], color="0.75", linewidth=1, label="loss of a batch")
        ax.plot(records["lr"], records["smoothed"], color="#0072B2", label="moving average")
        finite = records[np.isfinite(records["smoothed"])]
        low, high = finite[["loss", "smoothed"]].min().min(), finite["smoothed"].max()
        if high > low:  # single losses may be far above
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        if self["suggestion"] is not None:
            label = f"suggestion: {self['suggestion']:.2g}"
            ax.axvline(self["suggestion"], color="#D55E00", linestyle="--", label=label)
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        return (
            f"LRFinderResult(suggestion={self['suggestion']}, {len(self['records']['lr'])} steps)"
        )


def _steepest(records: dict[str, np.ndarray]) -> float | None:
    """Return the lr at which the smoothed loss falls most steeply, if it falls."""
    finite = np.isfinite(records["smoothed"])
    lrs, smoothed = records["lr"][finite], records["smoothed"][finite]
    # over fewer steps the noise of single batches is steeper than any fall
    half = max(1, len(lrs) // 7)
    if len(lrs) < 2 * half + 1:
        return None
    best, suggestion = 0.0, None
    minimum = half + int(smoothed[half:].argmin())
    for i in range(half, min(minimum + 1, len(lrs) - half)):
        around = slice(i - half, i + half + 1)
        x = np.log(lrs[around]) - np.log(lrs[around]).mean()
        slope = x @ (smoothed[around] - smoothed[i]) / (x @ x)
        if slope < best:
            best, suggestion = slope, float(lrs[i])
    return suggestion
