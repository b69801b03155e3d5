"""Record metrics of a phase: scikit-learn's scorers, functions, torchmetrics."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import name_of, short
from skorchlike.params.routing import snake_case

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

PENDING_BYTES = 16 * 2**20
"""So much of a phase is gathered on the device before it is moved to the CPU at once."""

OF_SCORES = ("y_score", "y_proba", "y_prob", "pred_decision")
"""What scikit-learn calls the second argument of functions that take no labels."""

NO_VALIDATION = (
    "Metrics measures on the validation data, and this fit has none. Set "
    "validation_fraction=0.1, pass X_val and y_val to fit, or set on='train'."
)


@register_callback("metrics")
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
    _rows: _Rows | None = None

    def __init__(self, metrics: Any = None, on: str = "valid", max_rows: int = 1_000_000) -> None:
        self.metrics = metrics
        self.on = on
        self.max_rows = max_rows

    @property
    def logs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The columns, in the order in which the metrics are given."""
        try:
            names = _named(self.metrics)
        except ParameterError:
            return ()  # on_begin says what is wrong
        return tuple(f"{phase}_{name}" for phase in self._phases() for name in names)

    def advise(self, setup: Setup) -> list[str]:
        """Say what is wrong with the metrics, and that validation data are missing."""
        try:
            _named(self.metrics)
        except ParameterError as error:
            return [str(error)]
        missing = "valid" in self._phases() and "valid_loss" not in setup.columns
        return [NO_VALIDATION] if missing else []

    def on_begin(self, ctx: Context) -> None:
        """Check the metrics; put those with a state on the device."""
        self._rows = None
        self._warned: set[str] = set()
        self._of_labels = is_classifier(ctx.estimator)
        metrics = _named(self.metrics)
        if "valid" in self._phases() and "valid_loss" not in ctx.columns:
            raise ParameterError(NO_VALIDATION)
        for name, other in ctx.callbacks.items():
            twice = [column for column in self.logs if other is not self and column in other.logs]
            if twice:
                raise ParameterError(
                    f"Metrics records {twice[0]!r}, and so does the callback {name!r}. Give the "
                    "metric another name: metrics={'name': metric}."
                )
        self._objects = {n: _on_device(m, ctx) for n, m in metrics.items() if _has_state(m)}
        self._scorers = {n: m for n, m in metrics.items() if not _has_state(m)}

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
        output = ctx.y_pred[0] if isinstance(ctx.y_pred, (tuple, list)) else ctx.y_pred
        if isinstance(output, torch.Tensor) and output.ndim == 0:
            output = output.reshape(1)  # a module that squeezes its output, at a single row
        _check_batch(output, ctx.y, self._of_labels)
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
        with torch.no_grad():
            for name, metric in self._objects.items():
                with _noted(name, self._phase):
                    values[name] = metric.compute()
        if self._scorers:
            values.update(self._scores(ctx, *rows.kept()))
        for name in _named(self.metrics):
            ctx.log(f"{self._phase}_{name}", values[name])

    on_batch_valid_end = on_batch_end
    on_after_train = on_valid_end
    # a cancelled phase has no such end: these three record what there is of it
    on_before_valid = on_epoch_end = on_end = on_valid_end

    def on_exit(self, ctx: Context) -> None:
        """Let go of the rows."""
        self._rows = None

    def _phases(self) -> tuple[str, ...]:
        return ("train", "valid") if self.on == "both" else (self.on,)

    def _begin(self, phase: str) -> None:
        if phase in self._phases():
            self._phase, self._rows = phase, _Rows(self.max_rows)
            for metric in self._objects.values():
                metric.reset()

    def _take_in(self, ctx: Context, rows: _Rows) -> None:
        """Bring what is gathered to the CPU, update the objects, keep the rest for later."""
        if not rows.pending:
            return
        sizes, (outputs, y, weight) = rows.move()
        if self._objects:
            responses = _responses(ctx, outputs, y, self._of_labels)
            for preds, target in zip(*(part.split(sizes) for part in responses), strict=True):
                for name, metric in self._objects.items():
                    with torch.no_grad(), _noted(name, self._phase):
                        metric.update(preds, target)
        if self._scorers:
            rows.keep([outputs, y, weight])
        self._warn(
            rows.every > 1,
            f"Metrics keeps at most max_rows={self.max_rows} rows of a phase, and there are more: "
            "scorers and functions are given every second, fourth, ... row.",
        )
        without = [*self._objects, *(n for n, s in self._scorers.items() if not _weighs(s))]
        self._warn(
            bool(without) and weight is not None,
            f"Metrics computes {', '.join(without)} without the sample weights of this fit: only "
            "scorers and functions with a parameter `sample_weight` can be given them.",
        )

    def _scores(
        self, ctx: Context, outputs: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None
    ) -> Iterator[tuple[str, Any]]:
        target = ctx.decode_target(y)
        if self._of_labels:
            stub: _Stub = _Classifier(ctx)
        else:
            # errors are then summed in double precision
            stub, target = _Regressor(ctx), target.astype(np.float64)
        weights = {} if weight is None else {"sample_weight": weight.double().numpy()}
        for name, scorer in self._scorers.items():
            with _noted(name, self._phase):
                score = scorer(stub, outputs, target, **(weights if _weighs(scorer) else {}))
            yield name, score

    def _warn(self, condition: bool, message: str) -> None:
        if condition and message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=2)


# ----------------------------------------------------------------------- metrics


def _named(metrics: Any) -> dict[str, Any]:
    """Return name → scorer, or object with a state, of what a user gave."""
    if isinstance(metrics, dict):
        pairs = list(metrics.items())
    else:
        several = isinstance(metrics, (list, tuple))
        pairs = [(_name(metric), metric) for metric in (metrics if several else [metrics])]
    if not pairs:
        raise ParameterError("The `metrics` parameter of Metrics is empty. Name at least one.")
    named: dict[str, Any] = {}
    for name, metric in pairs:
        if not isinstance(name, str) or name in ("", "loss"):
            raise ParameterError(
                "The name of a metric of Metrics must be a non-empty string other than 'loss', "
                f"which is the loop's own. Got {name!r}."
            )
        if name in named:
            raise ParameterError(
                f"The `metrics` parameter of Metrics has the name {name!r} twice. Give each its "
                "own: metrics={'name': metric}."
            )
        named[name] = _checked(name, metric)
    return named


def _name(metric: Any) -> str:
    """Return the name of a metric that was given none."""
    if isinstance(metric, str):
        return metric
    if _has_state(metric):
        return snake_case(name_of(metric))
    name = getattr(metric, "__name__", "")
    if callable(metric) and not name.isidentifier():  # scorers too: they may negate
        raise ParameterError(
            f"The `metrics` parameter of Metrics has an entry without a name, {short(metric)}. "
            "Give it one: metrics={'name': metric}."
        )
    return name or repr(metric)


def _checked(name: str, metric: Any) -> Any:
    """Return an object with a state as it is, and a scorer of all else."""
    from sklearn.metrics import get_scorer, get_scorer_names, make_scorer

    where = f"The metric {name!r} of Metrics"
    if isinstance(metric, str):
        if metric not in get_scorer_names():
            hint = did_you_mean(metric, get_scorer_names())
            raise ParameterError(f"{where}: scikit-learn has no scorer {metric!r}.{hint}")
        return get_scorer(metric)
    if isinstance(metric, type):
        raise ParameterError(f"{where} is the class {metric.__name__}. Pass an object of it.")
    if hasattr(metric, "items"):
        raise ParameterError(
            f"{where} is a collection. Pass its metrics: metrics=dict(collection.items())."
        )
    if _has_state(metric) or isinstance(metric, type(get_scorer("accuracy"))):
        return metric
    try:
        signature = inspect.signature(metric)
        signature.bind(None, None)
    except (TypeError, ValueError):
        raise ParameterError(
            f"{where} must be callable as f(y_true, y_pred), a scorer, or an object with update, "
            f"compute and reset. Got {short(metric)}."
        ) from None
    second = [*signature.parameters][1:2]
    if second and second[0] in OF_SCORES:
        raise ParameterError(
            f"{where} takes scores or probabilities ({second[0]!r}), and a function is given what "
            "predict returns. Say what it needs: metrics={'name': make_scorer(f, "
            "response_method='predict_proba')}, or name one of scikit-learn's scorers."
        )
    return make_scorer(metric)


def _weighs(scorer: Any) -> bool:
    """Whether a scorer can be given weights, and set_score_request did not forbid it."""
    return scorer.get_metadata_routing().score.requests.get("sample_weight", False) is not False


def _has_state(metric: Any) -> bool:
    return all(hasattr(metric, method) for method in ("update", "compute", "reset"))


def _on_device(metric: Any, ctx: Context) -> Any:
    return metric.to(ctx.device) if hasattr(metric, "to") else metric


# -------------------------------------------------------------------------- rows


class _Rows:
    """Outputs, targets and weights of a phase, thinned when they are too many."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows, self.every = max_rows, 1
        self.pending: list[tuple[Any, ...]] = []
        self.pending_bytes = self.n_batches = self.n_seen = 0
        self.parts: list[list[Any]] = []

    def gather(self, output: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> None:
        """Copy a batch on its device: a module may use the memory of its output again."""
        batch = (output.detach().clone(), y.clone(), None if weight is None else weight.clone())
        self.pending.append(batch)
        self.pending_bytes += sum(part.nbytes for part in batch if part is not None)
        self.n_batches += 1

    def move(self) -> tuple[list[int], list[Any]]:
        """Return the sizes of the batches gathered, and all of them as one, on the CPU."""
        sizes = [len(output) for output, *_ in self.pending]
        columns = zip(*self.pending, strict=True)
        self.pending, self.pending_bytes = [], 0
        return sizes, [None if c[0] is None else torch.cat(c).cpu() for c in columns]

    def keep(self, batch: list[Any]) -> None:
        """Keep the rows whose number in the order of arrival is a multiple of `every`."""
        n = len(batch[0])
        start = -self.n_seen % self.every
        self.parts.append(_thinned(batch, start, self.every))
        self.n_seen += n
        while -(-self.n_seen // self.every) > self.max_rows:
            self.every *= 2
            self.parts = [_thinned(self.kept(), 0, 2)]

    def kept(self) -> list[Any]:
        """Return what is kept: outputs, targets, and weights or None."""
        columns = zip(*self.parts, strict=True)
        return [None if c[0] is None else torch.cat(c) for c in columns]


def _thinned(batch: list[Any], start: int, every: int) -> list[Any]:
    # contiguous: a view would keep the memory of the rows left out
    return [None if part is None else part[start::every].contiguous() for part in batch]


def _check_batch(output: Any, y: Any, of_labels: bool) -> None:
    tensors = isinstance(output, torch.Tensor) and isinstance(y, torch.Tensor)
    if not tensors or len(output) != len(y):
        raise ParameterError(
            "Metrics needs the module's output, or the first of several, and the target as tensors "
            f"with an entry for each row. Got {short(output)} and {short(y)}."
        )
    if of_labels and y.is_floating_point():
        raise ParameterError(
            "Metrics needs labels, and the targets of the training batches are numbers: another "
            "callback mixed or changed them. Set on='valid'."
        )


# --------------------------------------------------------------------- responses


def _responses(
    ctx: Context, outputs: torch.Tensor, y: torch.Tensor, of_labels: bool
) -> list[torch.Tensor]:
    """Return what `update` is given, on the device."""
    if of_labels:
        probabilities = ctx.decode(outputs, "predict_proba")
        two = probabilities.shape[1] == 2
        pair = [torch.from_numpy(probabilities[:, 1] if two else probabilities), y]
    else:
        pair = [torch.from_numpy(a) for a in (ctx.decode(outputs), ctx.decode_target(y))]
    return [part.to(ctx.device) for part in pair]


@contextmanager
def _noted(name: str, phase: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"Raised by the metric {name!r} of Metrics on the {phase} data.")
        raise


class _Stub(BaseEstimator):
    """What scorers see: an estimator whose inputs are outputs of the module."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.decoded: dict[str, Any] = {}

    def predict(self, X: torch.Tensor) -> Any:
        return self._decode(X, "predict")

    def _decode(self, X: torch.Tensor, method: str) -> Any:
        if method not in self.decoded:  # X is always the same
            self.decoded[method] = self.ctx.decode(X, method)
        return self.decoded[method]


class _Regressor(RegressorMixin, _Stub):
    pass


class _Classifier(ClassifierMixin, _Stub):
    def __init__(self, ctx: Any) -> None:
        super().__init__(ctx)
        self.classes_ = ctx.estimator.classes_

    def predict_proba(self, X: torch.Tensor) -> Any:
        return self._decode(X, "predict_proba")

    def decision_function(self, X: torch.Tensor) -> Any:
        return self._decode(X, "decision_function")
