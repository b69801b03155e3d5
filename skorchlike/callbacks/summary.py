"""Prints a table of the layers at the first batch."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback
from skorchlike.modules.layers import LayerRecorder, LayerTable
from skorchlike.nested import n_rows_of

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class Summary(Callback):
    """Print a table of the layers: output shapes, parameters, multiply-adds.

    It is taken from the forward pass of the first training batch, so it costs no other one.

    Parameters
    ----------
    depth : int or None, default=None
        Layers further down are added up in the one that holds them: 1 are the module's
        children, 0 is the module alone. None shows all.

    Notes
    -----
    The state is the table, a `LayerTable`: ``table`` is a DataFrame; ``parameters``,
    ``trainable``, ``multiply_adds`` and ``size_mb`` are the totals. `summary` makes one
    without a fit.

    The multiply-adds are counted by ``torch.utils.flop_counter``. Tables of this kind are
    known from Keras, torchinfo and fastai.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, Summary
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=1, callbacks=[Summary()]).fit(X, y)
    name  layer   output shape  parameters  multiply-adds
    -----------------------------------------------------
    0     Linear  (150, 256)         1,280        153,600
    1     ReLU    (150, 256)             0              0
    2     Linear  (150, 3)             771        115,200
    -----------------------------------------------------
    Parameters: 2,051, of which trainable: 2,051
    Multiply-adds: 268,800 for 150 rows
    Size of parameters and buffers: 0.016 MB
    >>> net.model_.callbacks_.summary.parameters
    2051
    """

    order = 60
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "depth": [Interval(Integral, 0, None, closed="left"), None],
    }

    table: LayerTable | None = None
    _recorder: LayerRecorder | None = None

    def __init__(self, depth: int | None = None) -> None:
        self.depth = depth

    def on_begin(self, ctx: Context) -> None:
        """Forget an earlier table."""
        self.table = None

    def on_batch_begin(self, ctx: Context) -> None:
        """Watch the forward pass of the first batch."""
        if self.table is None:
            self._recorder = LayerRecorder(ctx.module)
            self._recorder.__enter__()

    def on_after_predict(self, ctx: Context) -> None:
        """Print the table."""
        if self._recorder is not None:
            recorder = self._recorder
            self._close()
            self.table = recorder.table(self.depth, n_rows_of(ctx.X))
            print(self.table)

    def on_batch_exit(self, ctx: Context) -> None:
        """Watch no more, whatever happened; a batch that was cancelled leaves it to the next."""
        self._close()

    def state_dict(self) -> LayerTable | None:
        """Return the table."""
        return self.table

    def load_state_dict(self, state: LayerTable) -> None:
        """Keep the table of the fit that is continued, without printing it again."""
        self.table = state

    def _close(self) -> None:
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            recorder.__exit__()
