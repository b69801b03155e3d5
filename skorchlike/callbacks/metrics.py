"""Record metrics of a phase: scikit-learn's scorers, functions, torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.metric_states import gathered, put_gathered
from skorchlike.callbacks.tools.rows import Rows
from skorchlike.callbacks.tools.scorers import (
    ClassifierStub,
    RegressorStub,
    Stub,
    has_state,
    named_metrics,
    weighs,
)
from skorchlike.exceptions import ParameterError
from skorchlike.nested import main_output
from skorchlike.params.calling import short

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

PENDING_BYTES = 16 * 2**20
"""So much of a phase is gathered on the device before it is moved to the CPU at once."""

OF_TRAINING = ("on_batch_end", "on_after_train")
OF_VALIDATION = ("on_valid_begin", "on_batch_valid_end", "on_valid_end")

NO_VALIDATION = (
    "Metrics measures on the validation data, and this fit has none. Set "
    "validation_fraction=0.1, pass X_val and y_val to fit, or set on='train'."
)


class Metrics(Callback):
    """Record metrics on the validation data, the training data or both, each epoch.

    Parameters
    ----------
    metrics : str, callable, object, list or dict
        One metric, a list, or ``{name: metric}``. A metric is one of these:

        - a name of `sklearn.metrics.get_scorer_names`, such as ``"roc_auc"``, or in a dict
          an object of `sklearn.metrics.make_scorer`;
        - a function ``f(y_true, y_pred)`` of labels or numbers as `predict` returns them;
          one with a parameter ``sample_weight`` is given the weights;
        - an object with ``update(preds, target)``, ``compute()`` and ``reset()``, as those
          of torchmetrics and torcheval. The fit uses a copy on its device.
    on : {"valid", "train", "both"}, default="valid"
        Which data to measure on. The training outputs are those from which the losses
        were computed: the weights change from batch to batch, and dropout is on.
    max_rows : int, default=1_000_000
        Rows of a phase kept for scorers and functions. Of more every second, fourth, ...
        row is kept, in the order of arrival, and a warning says so. Objects with
        ``update`` are given all rows.

    Raises
    ------
    ParameterError
        Before training: if a metric is unknown or has no name, a name stands twice, or
        there are no validation data.

    Warns
    -----
    UserWarning
        Once a fit: if rows are left out, or if there are weights that a metric cannot take.

    Notes
    -----
    The columns are ``valid_<name>`` and ``train_<name>``. Scorers and functions are given
    what the fitted estimator would respond on the same rows, and so give the same values.
    An object is given for each batch the target as class numbers and the probabilities,
    of the second class alone where there are two; in regression the numbers.

    The interface of the scorers is scikit-learn's; that of the objects torchmetrics'.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Metrics, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     max_epochs=2, validation_fraction=0.2, callbacks=[Metrics(["f1_macro", "roc_auc_ovr"])]
    ... ).fit(X, y)
    >>> list(net.history_.filter(like="valid_"))
    ['valid_loss', 'valid_accuracy', 'valid_f1_macro', 'valid_roc_auc_ovr']
    """

    order = 50
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "metrics": [str, list, tuple, dict, callable, HasMethods(["update", "compute", "reset"])],
        "on": [StrOptions({"train", "valid", "both"})],
        "max_rows": [Interval(Integral, 1, None, closed="left")],
    }

    # what there is when the fit ends before on_begin
    _rows: Rows | None = None

    def __init__(self, metrics: Any = None, on: str = "valid", max_rows: int = 1_000_000) -> None:
        self.metrics = metrics
        self.on = on
        self.max_rows = max_rows

    @property
    def logs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The columns, in the order in which the metrics are given."""
        try:
            names = named_metrics(self.metrics)
        except ParameterError:
            return ()  # on_begin says what is wrong
        return tuple(f"{phase}_{name}" for phase in self._phases() for name in names)

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """Those of the phase that is not measured."""
        return OF_TRAINING if self.on == "valid" else OF_VALIDATION if self.on == "train" else ()

    def advise(self, setup: Setup) -> list[str]:
        """Say what is wrong with the metrics, and that validation data are missing."""
        try:
            named_metrics(self.metrics)
        except ParameterError as error:
            return [str(error)]
        missing = "valid" in self._phases() and "valid_loss" not in setup.columns
        return [NO_VALIDATION] if missing else []

    def on_begin(self, ctx: Context) -> None:
        """Check the metrics; put those with a state on the device."""
        self._rows = None
        self._warned: set[str] = set()
        self._of_labels, self._device = is_classifier(ctx.estimator), ctx.device
        metrics = named_metrics(self.metrics)
        if "valid" in self._phases() and "valid_loss" not in ctx.columns:
            raise ParameterError(NO_VALIDATION)
        _check_columns(self, ctx)
        self._objects = {n: _on_device(m, ctx) for n, m in metrics.items() if has_state(m)}
        self._scorers = {n: m for n, m in metrics.items() if not has_state(m)}

    def on_before_train(self, ctx: Context) -> None:
        """Begin anew for the training data."""
        self._begin("train")

    def on_valid_begin(self, ctx: Context) -> None:
        """Begin anew for the validation data."""
        self._begin("valid")

    def on_batch_end(self, ctx: Context) -> None:
        """Gather a batch."""
        rows = self._rows
        if rows is None:
            return
        output = _with_rows(main_output(ctx.y_pred))
        # numbers are labels too where a row has several, or their probabilities
        one_a_row = getattr(ctx.estimator, "_target_kind", None) == "labels"
        _check_batch(output, ctx.y, one_a_row)
        rows.gather(output, ctx.y, ctx.sample_weight)
        if rows.pending_bytes >= PENDING_BYTES:
            self._take_in(ctx, rows)

    def on_valid_end(self, ctx: Context) -> None:
        """Record the metrics of the phase that has ended, if they are not yet."""
        rows, self._rows = self._rows, None
        if rows is None or not rows.n_batches:
            return
        self._take_in(ctx, rows)
        values = {}
        for name, metric in self._objects.items():
            with torch.no_grad(), _noted(name, self._phase):
                values[name] = metric.compute()
        if self._scorers:
            call = _scorer_call(ctx, self._of_labels, *rows.kept())
            for name, scorer in self._scorers.items():
                with _noted(name, self._phase):
                    values[name] = call(scorer)
        for name in named_metrics(self.metrics):
            ctx.log(f"{self._phase}_{name}", values[name])

    on_batch_valid_end = on_batch_end
    on_after_train = on_valid_end
    # a cancelled phase has no such end: these three record what there is of it
    on_before_valid = on_epoch_end = on_end = on_valid_end

    def on_exit(self, ctx: Context) -> None:
        """Let go of the rows."""
        self._rows = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return what is gathered of the phase that is under way, if there is any."""
        if self._rows is None or not self._rows.n_batches:
            return None
        objects = {name: gathered(metric) for name, metric in self._objects.items()}
        return {"phase": self._phase, "rows": self._rows.state(), "objects": objects}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a phase."""
        self._begin(state["phase"])
        if self._rows is not None:
            self._rows.load(state["rows"], self._device)
            for name, metric in self._objects.items():
                put_gathered(metric, state["objects"][name], self._device)

    def _phases(self) -> tuple[str, ...]:
        return ("train", "valid") if self.on == "both" else (self.on,)

    def _begin(self, phase: str) -> None:
        self._rows = None  # a state may have left rows of another phase
        if phase in self._phases():
            self._phase, self._rows = phase, Rows(self.max_rows)
            for metric in self._objects.values():
                metric.reset()

    def _take_in(self, ctx: Context, rows: Rows) -> None:
        """Bring what is gathered to the CPU, update the objects, keep the rest for later."""
        if not rows.pending:
            return
        sizes, (outputs, y, weight) = rows.move()
        if self._objects:
            responses = _responses(ctx, outputs, y, self._of_labels)
            for preds, target in zip(*(part.split(sizes) for part in responses), strict=True):
                for name, metric in self._objects.items():
                    with torch.no_grad(), _noted(name, self._phase):
                        metric.update(
                            _preds_for(metric, preds, self._of_labels and y.ndim == 1), target
                        )
        if self._scorers:
            rows.keep([outputs, y, weight])
        self._warn(
            rows.every > 1,
            f"Metrics keeps at most max_rows={self.max_rows} rows of a phase, and there are more: "
            "scorers and functions are given every second, fourth, ... row.",
        )
        without = [*self._objects, *(n for n, s in self._scorers.items() if not weighs(s))]
        self._warn(
            bool(without) and weight is not None,
            f"Metrics computes {', '.join(without)} without the sample weights of this fit: only "
            "scorers and functions with a parameter `sample_weight` can be given them.",
        )

    def _warn(self, condition: bool, message: str) -> None:
        if condition and message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=2)


def _check_columns(metrics: Metrics, ctx: Context) -> None:
    for name, other in ctx.callbacks.items():
        twice = [column for column in metrics.logs if other is not metrics and column in other.logs]
        if twice:
            raise ParameterError(
                f"Metrics records {twice[0]!r}, and so does the callback {name!r}. Give the "
                "metric another name: metrics={'name': metric}."
            )


def _on_device(metric: Any, ctx: Context) -> Any:
    return metric.to(ctx.device) if hasattr(metric, "to") else metric


def _check_batch(output: Any, y: Any, one_label_a_row: bool) -> None:
    tensors = isinstance(output, torch.Tensor) and isinstance(y, torch.Tensor)
    if not tensors or len(output) != len(y):
        raise ParameterError(
            "Metrics needs the module's output, or the first of several, and the target as tensors "
            f"with an entry for each row. Got {short(output)} and {short(y)}."
        )
    if one_label_a_row and y.is_floating_point():
        raise ParameterError(
            "Metrics needs labels, and the targets of the training batches are numbers: another "
            "callback mixed or changed them. Set on='valid'."
        )


def _responses(
    ctx: Context, outputs: torch.Tensor, y: torch.Tensor, of_labels: bool
) -> list[torch.Tensor]:
    """Return what `update` is given, on the device."""
    if of_labels:
        target = y if not y.is_floating_point() else torch.from_numpy(ctx.decode_target(y))
        pair = [torch.from_numpy(ctx.decode(outputs, "predict_proba")), target]
    else:
        pair = [torch.from_numpy(a) for a in (ctx.decode(outputs), ctx.decode_target(y))]
    return [part.to(ctx.device) for part in pair]


def _scorer_call(
    ctx: Context,
    of_labels: bool,
    outputs: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor | None,
) -> Callable[[Any], Any]:
    """Return what calls a scorer on outputs of the module."""
    target = ctx.decode_target(y)
    if of_labels:
        stub: Stub = ClassifierStub(ctx)
    else:
        # errors are then summed in double precision
        stub, target = RegressorStub(ctx), target.astype(np.float64)
    weights = {} if weight is None else {"sample_weight": weight.double().numpy()}
    return lambda scorer: scorer(stub, outputs, target, **(weights if weighs(scorer) else {}))


def _with_rows(output: Any) -> Any:
    """Return the output of a module that squeezes it, at a single row, with its dimension."""
    return output.reshape(1) if isinstance(output, torch.Tensor) and output.ndim == 0 else output


def _preds_for(metric: Any, preds: torch.Tensor, one_label_a_row: bool) -> torch.Tensor:
    """Return what one object is given: of two classes the probability of the second.

    So binary ones want it. The multiclass ones of torchmetrics and torcheval would take a
    single probability for a label.
    """
    every = type(metric).__name__.startswith(("Multiclass", "Multilabel"))
    return preds[:, 1] if one_label_a_row and preds.shape[1] == 2 and not every else preds


@contextmanager
def _noted(name: str, phase: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"Raised by the metric {name!r} of Metrics on the {phase} data.")
        raise
