"""Records mean, spread and dead share of activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.activation_records import ActivationRecords, measure
from skorchlike.callbacks.tools.submodules import submodules, tensors_in
from skorchlike.exceptions import did_you_mean
from skorchlike.params.patterns import Patterns, check_patterns, matching

if TYPE_CHECKING:
    from skorchlike.training.context import Context


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
        if self._batch is not None and not self._batch:
            self._pending.pop()  # it was cancelled before its pass
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
        """Return the records, those on the device too, which stay there until their time."""
        return None if self._result is None else self._fetched()

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
        parts = submodules(module)
        leaves = [name for name, part in parts.items() if next(part.children(), None) is None]
        globs = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        exact = set() if callable(globs) else set(globs)
        chosen = exact.union(matching(self.patterns, leaves))
        return {name: part for name, part in parts.items() if name in chosen}

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            if self._batch is not None and name not in self._batch:
                tensor = next((t for t in tensors_in(output) if not t.is_complex()), None)
                if tensor is not None and tensor.numel():
                    self._batch[name] = measure(tensor, self.n_bins, self.dead_threshold)

        return hook

    def _is_due(self, global_step: int) -> bool:
        assert self._result is not None
        return (global_step - 1) % self._result.stride == 0

    def _fetch(self) -> None:
        """Move what is pending from the device, all at once: this waits for it."""
        self._result, self._pending = self._fetched(), []
        self._n_fetched = self._result.n_batches

    def _fetched(self) -> ActivationRecords:
        assert self._result is not None
        rows = [(name, *at) for at, batch in self._pending for name in batch]
        numbers = [value for _, batch in self._pending for value in batch.values()]
        result = ActivationRecords(**self._result)
        if rows:
            result.append(rows, torch.stack(numbers).cpu().double().numpy())
        return result
