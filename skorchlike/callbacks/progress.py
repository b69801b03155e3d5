"""A progress bar over epochs and batches."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import import_extra

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class Progress(Callback):
    """Show a progress bar, in a terminal or a notebook, by tqdm.

    Parameters
    ----------
    batches : bool, default=True
        Whether to show the batches of a phase in a second bar, which disappears when the
        phase ends, and those of a prediction.
    delay : float, default=0.5
        Seconds that a phase must take before the bar of its batches shows; shorter phases
        would only flicker.
    min_interval : float, default=0.1
        Least time between two updates of a bar, in seconds.

    Raises
    ------
    ImportError
        At fit, if tqdm is not installed (the extra ``progress``).

    Notes
    -----
    The bars go to standard error. Behind the bar of the epochs stands the last record
    of the history.

    Examples
    --------
    >>> from skorchlike import NeuralNetClassifier
    >>> net = NeuralNetClassifier(callbacks=["progress"])
    """

    order = 150
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "batches": ["boolean"],
        "delay": [Interval(Real, 0, None, closed="left")],
        "min_interval": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, batches: bool = True, delay: float = 0.5, min_interval: float = 0.1) -> None:
        self.batches = batches
        self.delay = delay
        self.min_interval = min_interval

    def on_begin(self, ctx: Context) -> None:
        """Open the bar of the epochs."""
        self._prepare()
        self.epochs = self._open(
            total=ctx.max_epochs, initial=ctx.epoch, desc="epochs", unit="epoch"
        )
        self.bars.append(self.epochs)

    def on_before_train(self, ctx: Context) -> None:
        """Open the bar of the training batches."""
        self._open_phase(ctx, "train")

    def on_valid_begin(self, ctx: Context) -> None:
        """Open the bar of the validation batches."""
        self._open_phase(ctx, "valid")

    def on_batch_exit(self, ctx: Context) -> None:
        """Count a batch."""
        if len(self.bars) > 1:
            # not by one: a fit that is resumed goes on in the middle of a phase
            self.bars[-1].update(ctx.step - self.bars[-1].n)

    def on_phase_exit(self, ctx: Context) -> None:
        """Close the bar of the batches."""
        if len(self.bars) > 1:
            self.bars.pop().close()

    def on_epoch_end(self, ctx: Context) -> None:
        """Count an epoch and show its record."""
        record = {
            name: f"{value:.4g}"
            for name, value in ctx.history[-1].items()
            if isinstance(value, float) and name not in ("duration", "lr")
        }
        self.epochs.set_postfix(record, refresh=False)
        self.epochs.update()

    def on_exit(self, ctx: Context) -> None:
        """Close what is open, and keep no bar: it could not be copied."""
        for bar in reversed(getattr(self, "bars", [])):
            bar.close()
        for name in ("bars", "epochs", "_open"):
            self.__dict__.pop(name, None)

    def on_predict_begin(self, ctx: Context) -> None:
        """Open the bar of the batches to predict."""
        self._prepare()
        self._open_phase(ctx, "predict")

    def on_batch_predict_end(self, ctx: Context) -> None:
        """Count a batch."""
        for bar in self.bars:
            bar.update()

    on_predict_exit = on_exit

    def _prepare(self) -> None:
        self.bars: list[Any] = []
        tqdm = import_extra("tqdm.auto", "progress", "The callback Progress").tqdm
        self._open = lambda **options: tqdm(mininterval=self.min_interval, **options)

    def _open_phase(self, ctx: Context, phase: str) -> None:
        if self.batches:
            bar = self._open(
                total=ctx.n_steps, desc=phase, unit="batch", leave=False, delay=self.delay
            )
            self.bars.append(bar)
