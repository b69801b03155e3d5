"""Records mean, spread and dead share of activations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.exceptions import ParameterError, did_you_mean, import_extra
from skorchlike.params.patterns import Patterns, check_patterns, matching

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from skorchlike.training.context import Context

LINEAR, LARGEST = 0.1, 100.0
"""Bins are equally wide up to about the first size, and wider and wider up to the second."""

SPAN = math.log1p(LARGEST / LINEAR)

MOST_VALUES = 2**14
"""A histogram is of the first rows of a batch, of so many values: enough for shares."""

STATISTICS = ("mean", "std", "near_zero", "dead")


@register_callback("activation_stats")
class ActivationStats(Callback):
    """Record mean, spread, dead share and a histogram of the outputs of layers, in training.

    Parameters
    ----------
    patterns : str, list of str, or callable, default="*"
        Which layers: globs on the qualified names of submodules that have no submodules
        themselves, of which one must match, or a function of a name. A submodule of any
        kind is taken by its very name.
    every : int, default=1
        Record every so many training batches, the first among them.
    n_bins : int, default=40
        Bins of a histogram, from -100 to 100: equally wide around 0, wider and wider outwards.
        The outermost hold what is beyond.
    dead_threshold : float, default=1e-6
        An output of at most this absolute value is near zero.
    max_records : int, default=500
        Most batches to keep. When they are more, every second one is dropped, and
        half as many are recorded from then on.

    Notes
    -----
    The state is an `ActivationRecords`: ``records``, a DataFrame of one row a layer and
    batch, ``histograms``, and ``plot()``. ``near_zero`` is the share of outputs that are near
    zero; ``dead`` is the share of units that are near zero in all rows of the batch, a unit
    being one of the numbers that a layer puts out for a row. The batch must be the
    first dimension.

    Of several outputs of a layer the first tensor counts, of several calls in a batch the
    first. The histogram of a large output is of the batch's first rows, 16384 numbers or so.
    All stays on the device until the end of the training phase.

    The idea: ``ActivationStats`` of fastai; its "colorful dimension" is S. Giomo's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import ActivationStats, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=2, callbacks=[ActivationStats()], random_state=0)
    >>> stats = net.fit(X, y).model_.callbacks_.activation_stats
    >>> stats
    ActivationRecords(layers: '0', '1', '2'; batches: 2)
    >>> list(stats.records.columns)
    ['layer', 'epoch', 'step', 'global_step', 'mean', 'std', 'near_zero', 'dead']
    """

    order = 60
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "patterns": [str, list, tuple, set, frozenset, callable],
        "every": [Interval(Integral, 1, None, closed="left")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "dead_threshold": [Interval(Real, 0, None, closed="left")],
        "max_records": [Interval(Integral, 2, None, closed="left")],
    }

    _handles: tuple[Any, ...] = ()
    _result: ActivationRecords | None = None

    def __init__(
        self,
        patterns: Patterns = "*",
        every: int = 1,
        n_bins: int = 40,
        dead_threshold: float = 1e-6,
        max_records: int = 500,
    ) -> None:
        self.patterns = patterns
        self.every = every
        self.n_bins = n_bins
        self.dead_threshold = dead_threshold
        self.max_records = max_records

    def on_begin(self, ctx: Context) -> None:
        """Check the patterns, and begin with no records."""
        check_patterns(self.patterns, "The `patterns` parameter of ActivationStats")
        if not self._layers(ctx.module):
            names = [name for name, _ in ctx.module.named_modules() if name]
            warnings.warn(
                f"ActivationStats records nothing: {self.patterns!r} matches no layer."
                f"{did_you_mean(str(self.patterns), names)}",
                stacklevel=2,
            )
        self._result = ActivationRecords.empty(int(self.n_bins), int(self.every))
        # of each batch on the device: epoch, step, global_step, layer → numbers
        self._pending: list[tuple[tuple[int, int, int], dict[str, Tensor]]] = []
        self._batch: dict[str, Tensor] | None = None
        self._n_fetched = 0

    def on_before_train(self, ctx: Context) -> None:
        """Put the hooks in place."""
        for name, part in self._layers(ctx.module).items():
            self._handles += (part.register_forward_hook(self._hook(name)),)

    def on_batch_begin(self, ctx: Context) -> None:
        """Record this batch if it is its turn."""
        assert self._result is not None
        self._batch, step = None, ctx.global_step
        while self._is_due(step) and self._n_fetched + len(self._pending) >= self.max_records:
            self._result.thin()
            self._n_fetched = self._result.n_batches
            self._pending = [(at, batch) for at, batch in self._pending if self._is_due(at[2])]
        if self._is_due(step):
            self._batch = {}
            self._pending.append(((ctx.epoch, ctx.step, step), self._batch))

    def on_batch_exit(self, ctx: Context) -> None:
        """Record no pass of the module until the next batch."""
        self._batch = None

    def on_phase_exit(self, ctx: Context) -> None:
        """Remove the hooks, and move the numbers from the device."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()
        self._fetch()

    def on_exit(self, ctx: Context) -> None:
        """Remove what is left, and keep nothing on the device."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._pending, self._batch = (), [], None

    def state_dict(self) -> ActivationRecords | None:
        """Return the records."""
        if self._result is not None:
            self._fetch()
        return self._result

    def load_state_dict(self, state: ActivationRecords) -> None:
        """Go on with the records of an earlier fit, if the bins are the same."""
        if len(state.edges) == self.n_bins + 1:
            state.stride = max(state.stride, int(self.every))
            self._result, self._pending, self._n_fetched = state, [], state.n_batches
        else:
            warnings.warn(
                f"ActivationStats starts afresh: the fit that is continued has "
                f"{len(state.edges) - 1} bins and n_bins is {self.n_bins}.",
                stacklevel=2,
            )

    def _layers(self, module: nn.Module) -> dict[str, nn.Module]:
        parts = {
            name.replace("_orig_mod.", "").removesuffix("_orig_mod"): part
            for name, part in module.named_modules()
        }
        leaves = [name for name, part in parts.items() if next(part.children(), None) is None]
        globs = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        exact = set() if callable(globs) else set(globs)
        chosen = exact.union(matching(self.patterns, leaves))
        return {name: part for name, part in parts.items() if name in chosen}

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            if self._batch is not None and name not in self._batch:
                tensor = next(_tensors(output), None)
                if tensor is not None and tensor.numel():
                    self._batch[name] = measure(tensor, self.n_bins, self.dead_threshold)

        return hook

    def _is_due(self, global_step: int) -> bool:
        assert self._result is not None
        return (global_step - 1) % self._result.stride == 0

    def _fetch(self) -> None:
        """Move what is pending from the device, all at once: this waits for it."""
        assert self._result is not None
        rows = [(name, *at) for at, batch in self._pending for name in batch]
        numbers = [value for _, batch in self._pending for value in batch.values()]
        self._pending = []
        if rows:
            self._result.append(rows, torch.stack(numbers).cpu().double().numpy())
            self._n_fetched = self._result.n_batches


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


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of numbers in nested tuples, lists and dicts."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))


def _show(name: str) -> str:
    return name or "the module"
