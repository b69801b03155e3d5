"""What is recorded of activations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import Bunch
from torch import Tensor

from skorchlike.exceptions import ParameterError, did_you_mean, import_extra
from skorchlike.params.patterns import Patterns, matching

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINEAR, LARGEST = 0.1, 100.0
"""Bins are equally wide up to about the first size, and wider and wider up to the second."""

SPAN = math.log1p(LARGEST / LINEAR)

MOST_VALUES = 2**14
"""A histogram is of the first rows of a batch, of so many values: enough for shares."""

STATISTICS = ("mean", "std", "near_zero", "dead")


class ActivationRecords(Bunch):
    """What `ActivationStats` has recorded.

    Attributes
    ----------
    records : pandas.DataFrame
        One row a layer and recorded batch: ``layer``, ``epoch``, ``step`` (in its epoch),
        ``global_step``, ``mean``, ``std``, ``near_zero`` and ``dead``.
    histograms : dict
        Layer → array of shape (n_batches, n_bins): the share of outputs in each bin.
    edges : ndarray of shape (n_bins + 1,)
        The edges of the bins.
    stride : int
        Every so many training batches one is kept.
    """

    @classmethod
    def empty(cls, n_bins: int, stride: int) -> ActivationRecords:
        """Return an object without records."""
        counters = {name: np.empty(0, np.int64) for name in ("epoch", "step", "global_step")}
        return cls(
            layer=[],
            **counters,
            **{name: np.empty(0) for name in STATISTICS},
            shares=np.empty((0, n_bins), np.float32),
            edges=_value(np.linspace(-SPAN, SPAN, n_bins + 1)),
            stride=stride,
        )

    @property
    def n_batches(self) -> int:
        """The number of batches recorded."""
        return len(np.unique(self.global_step))

    @property
    def records(self) -> pd.DataFrame:
        """The statistics as a table."""
        import pandas as pd  # costs half a second, and few fits are looked at

        names = ("layer", "epoch", "step", "global_step", *STATISTICS)
        return pd.DataFrame({name: self[name] for name in names})

    @property
    def histograms(self) -> dict[str, np.ndarray]:
        """The histograms by layer."""
        return {name: self.shares[self._rows(name)] for name in dict.fromkeys(self.layer)}

    def append(self, rows: list[tuple[str, int, int, int]], numbers: np.ndarray) -> None:
        """Add rows of layer and counters, and their statistics and histograms."""
        layers, *counters = zip(*rows, strict=True)
        columns = [*counters, *numbers[:, : len(STATISTICS)].T, numbers[:, len(STATISTICS) :]]
        names = ("epoch", "step", "global_step", *STATISTICS, "shares")
        self["layer"] = [*self["layer"], *layers]
        for name, new in zip(names, columns, strict=True):
            old = self[name]
            self[name] = np.concatenate([old, np.asarray(new, old.dtype)])

    def thin(self) -> None:
        """Drop every second batch."""
        self.stride *= 2
        keep = (self.global_step - 1) % self.stride == 0
        self["layer"] = [name for name, kept in zip(self["layer"], keep, strict=True) if kept]
        for name in ("epoch", "step", "global_step", *STATISTICS, "shares"):
            self[name] = self[name][keep]

    def plot(self, layers: Patterns = "*") -> Figure:
        """Draw mean, standard deviation and dead share, and a picture of the histograms.

        Parameters
        ----------
        layers : str, list of str, or callable, default="*"
            Which of the layers recorded: globs on their names, or a function of a name.

        Returns
        -------
        matplotlib.figure.Figure
            In the pictures a column is a batch, and the colour is the share of the outputs.
        """
        names = matching(layers, dict.fromkeys(self.layer))
        if not names:
            raise ParameterError(
                f"There is nothing to plot of {layers!r}."
                f"{did_you_mean(str(layers), dict.fromkeys(self.layer))}"
            )
        pyplot = import_extra("matplotlib.pyplot", "plot", "ActivationRecords.plot")
        n_rows = 1 + -(-len(names) // 3)
        figure, axes = pyplot.subplots(n_rows, 3, figsize=(8, 2 * n_rows), layout="constrained")
        colors = pyplot.get_cmap("viridis")(np.linspace(0, 0.9, len(names)))
        for ax, column, title in zip(axes[0], ("mean", "std", "dead"), TITLES, strict=True):
            for name, color in zip(names, colors, strict=True):
                rows = self._rows(name)
                ax.plot(self.global_step[rows], self[column][rows], color=color, label=_show(name))
            ax.set(
                title=title, xlabel="training batch", ylim=(0, None) if column != "mean" else None
            )
        axes[0, 2].legend(title="layer", loc="center left", bbox_to_anchor=(1.05, 0.5))
        pictures = axes[1:].ravel()
        for ax, name in zip(pictures, names, strict=False):
            image = self._picture(ax, name)
        for ax in pictures[len(names) :]:
            ax.remove()
        figure.colorbar(image, ax=list(pictures[: len(names)]), label="share of outputs")
        return figure

    def _picture(self, ax: Any, name: str) -> Any:
        rows = self._rows(name)
        steps = self.global_step[rows]
        last = steps[-1] + (steps[-1] - steps[-2] if len(steps) > 1 else 1)
        used = np.flatnonzero(self.shares.any(0))
        low, high = (used[0], used[-1] + 1) if len(used) else (0, len(self.edges) - 1)
        # the axis is that of the bins, and so are its ticks
        heights = _height(self.edges[low : high + 1])
        norm = import_extra("matplotlib.colors", "plot", "ActivationRecords.plot").LogNorm(1e-3, 1)
        image = ax.pcolormesh(
            [*steps, last], heights, self.shares[rows, low:high].T, norm=norm, cmap="viridis"
        )
        ax.set_facecolor(image.get_cmap()(0.0))  # shares of 0 have no logarithm
        ticks = np.array([-100, -10, -1, 0, 1, 10, 100])
        ax.set_yticks(_height(ticks), [str(tick) for tick in ticks])
        ax.set(title=_show(name), xlabel="training batch", ylabel="output")
        ax.set_ylim(heights[0], heights[-1])
        return image

    def _rows(self, name: str) -> np.ndarray:
        return np.array([layer == name for layer in self.layer], bool)

    def __repr__(self) -> str:
        """Return the layers and the number of batches."""
        layers = ", ".join(map(repr, dict.fromkeys(self.layer))) or "none"
        return f"ActivationRecords(layers: {layers}; batches: {self.n_batches})"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "histograms", "plot", "records"]


TITLES = ("mean", "std", "share of dead units")


def _height(values: np.ndarray) -> np.ndarray:
    """Return where values stand on the axis on which the bins are equally wide."""
    return np.copysign(np.log1p(np.abs(values) / LINEAR), values)


def _value(heights: np.ndarray) -> np.ndarray:
    return np.copysign(LINEAR * np.expm1(np.abs(heights)), heights)


def measure(tensor: Tensor, n_bins: int, threshold: float) -> Tensor:
    """Return mean, std, near-zero share, dead share, and the share of each bin, on the device.

    Parameters
    ----------
    tensor : Tensor of shape (n, ...)
        Outputs.
    n_bins : int
        Number of bins.
    threshold : float
        What is near zero.
    """
    values = tensor.detach()
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    values = values.reshape(len(values) if values.ndim else 1, -1)
    near_zero = values.abs() <= threshold
    statistics = [
        values.mean(),
        values.std(correction=0),  # on a CPU this is faster than std_mean
        near_zero.to(values.dtype).mean(),
        near_zero.all(0).to(values.dtype).mean(),
    ]
    rows = values[: max(1, MOST_VALUES // values.shape[1])].flatten()
    place = ((rows.abs() / LINEAR).log1p().copysign(rows) + SPAN) * (n_bins / (2 * SPAN))
    # NaN gets a bin of its own; not histc, which refuses to be deterministic on CUDA
    place = place.clamp(0, n_bins - 1).nan_to_num(n_bins).long()
    one = values.new_ones(()).expand(len(rows))
    counts = values.new_zeros(n_bins + 1).scatter_add_(0, place, one)
    return torch.cat([torch.stack(statistics), counts[:-1] / len(rows)])


def _show(name: str) -> str:
    return name or "the module"
