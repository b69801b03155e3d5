"""Write parameters and metrics of a fit to an MLflow store."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Mapping
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, import_extra

if TYPE_CHECKING:
    from skorchlike.training.context import Context

LONGEST_NAME, LONGEST_VALUE, MOST_PARAMS = 250, 6000, 100  # limits of MLflow


class MLflow(Callback):
    """Write parameters, the history and how the fit ended to a run of MLflow.

    Parameters
    ----------
    tracking_uri : None, str or path-like, default=None
        The store: a URI as MLflow takes it, such as ``"sqlite:///mlflow.db"`` or
        ``"http://localhost:5000"``, or the path of a SQLite file. None
        is the store that MLflow itself would use: ``MLFLOW_TRACKING_URI``, else
        ``mlflow.db`` in the working folder.
    experiment : str, default="Default"
        The experiment; it is made if there is none of that name.
    run_name : None or str, default=None
        The name of the run; None is the class of the estimator.
    log_params : bool, default=True
        Whether to write the parameters of the estimator, by their names in
        ``get_params``, as text, cut at MLflow's limit of 6000 characters.

    Raises
    ------
    ImportError
        At fit, if mlflow is not installed (the extra ``mlflow``).
    ParameterError
        Before training, if the store or the experiment cannot be opened.

    Notes
    -----
    Each fit is a run. A continued fit goes on in the run of the fit before it, whose
    parameters stay as they were: MLflow cannot change them. Numbers of the history are
    metrics, with the epoch as step; ``stop_reason`` is a tag. The status is ``FINISHED``,
    ``KILLED`` after an interruption, ``FAILED`` after an error. No active run is set and
    none is used. The state is the run: ``model_.callbacks_.mlflow["run_id"]``. MLflow cannot
    take back what was written: an interrupted fit that is resumed writes only what is not there.

    Runs are written by `mlflow.tracking.MlflowClient`.

    Examples
    --------
    >>> from skorchlike import MLflow, NeuralNetClassifier
    >>> net = NeuralNetClassifier(
    ...     callbacks=[MLflow("sqlite:///mlflow.db", experiment="iris")]
    ... )
    """

    order = 210
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "tracking_uri": [None, str, os.PathLike],
        "experiment": [str],
        "run_name": [None, str],
        "log_params": ["boolean"],
    }

    # what there is when the fit ends before on_begin
    run_id: str | None = None
    running = under_way = cut_off = False
    # metrics of epochs that the fit had trained beyond the point from which it goes on
    there: Mapping[tuple[str, int], float] = MappingProxyType({})

    def __init__(
        self,
        tracking_uri: str | os.PathLike[str] | None = None,
        experiment: str = "Default",
        run_name: str | None = None,
        log_params: bool = True,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name
        self.log_params = log_params

    def on_begin(self, ctx: Context) -> None:
        """Import the library; which run it is may come from the fit that is continued."""
        tracking = import_extra("mlflow.tracking", "mlflow", "The callback MLflow")
        uri = self.tracking_uri
        if uri is None:
            uri = tracking.get_tracking_uri()  # absolute: the working folder may change
        is_path = not isinstance(uri, str) or (":" not in uri and not uri.startswith("databricks"))
        self.uri: str = f"sqlite:///{os.path.realpath(uri)}" if is_path else str(uri)
        self.run_id, self.running, self.written = None, False, ctx.epoch
        self.under_way, self.cut_off = True, False

    def on_epoch_begin(self, ctx: Context) -> None:
        """Begin the run, or go on with it."""
        if not self.running:
            self._open(ctx)

    def on_epoch_end(self, ctx: Context) -> None:
        """Write the record of the epoch."""
        self.on_epoch_begin(ctx)  # an earlier callback may have cancelled the epoch as it began
        self._log_record(ctx)

    def on_end(self, ctx: Context) -> None:
        """Open the run of a fit that was killed at its end, to say how it ended."""
        self.under_way = False
        if self.cut_off and not self.running:
            self._open(ctx)

    def on_exit(self, ctx: Context) -> None:
        """Write what there is of an epoch that was cut off, and how the fit ended."""
        if not self.running:
            return
        self.running, client = False, self._client()
        try:
            if ctx.epoch > self.written:
                self._log_record(ctx)
            if ctx.stop_reason:
                client.set_tag(self.run_id, "stop_reason", ctx.stop_reason)
        finally:
            statuses = {"interrupted": "KILLED", "failed": "FAILED"}
            client.set_terminated(self.run_id, statuses.get(ctx.stop_reason or "", "FINISHED"))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the run."""
        if self.run_id is None:
            return None
        state: dict[str, Any] = {"run_id": self.run_id}
        return {**state, "under_way": True} if self.under_way else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the run of an earlier fit."""
        self.run_id, self.cut_off = state["run_id"], state.get("under_way", False)

    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient

        with warnings.catch_warnings():
            # MLflow uses a part of SQLAlchemy that is deprecated, when it first opens a store
            warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
            return MlflowClient(tracking_uri=self.uri)

    def _open(self, ctx: Context) -> None:
        new = self.run_id is None
        try:
            client = self._client()
            if not new:
                client.update_run(self.run_id, status="RUNNING")
                self.there = _metrics_after(client, self.run_id, self.written, self.cut_off)
            else:
                # without a name MLflow draws one from Python's random numbers
                name = self.run_name or type(ctx.estimator).__name__
                run = client.create_run(self._experiment_id(client), run_name=name)
                self.run_id = run.info.run_id
        except Exception as error:
            raise ParameterError(
                f"MLflow cannot begin a run with tracking_uri={self.uri!r} and "
                f"experiment={self.experiment!r}: {error}"
            ) from error
        self.running = True
        if new and self.log_params:
            self._log_params(ctx, client)

    def _experiment_id(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return client.create_experiment(self.experiment)
            except MlflowException:  # another process may have made it meanwhile
                found = client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return found.experiment_id

    def _log_params(self, ctx: Context, client: Any) -> None:
        from mlflow.entities import Param

        # not its own, where a store's password may stand
        own = next(f"callbacks__{name}" for name, cb in ctx.callbacks.items() if cb is self)
        params = [
            Param(_name(name), (value if isinstance(value, str) else repr(value))[:LONGEST_VALUE])
            for name, value in ctx.estimator.get_params(deep=True).items()
            if name not in ("callbacks", own) and not name.startswith(f"{own}__")
        ]
        for start in range(0, len(params), MOST_PARAMS):
            client.log_batch(self.run_id, params=params[start : start + MOST_PARAMS])

    def _log_record(self, ctx: Context) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(_name(name), float(value), now, ctx.epoch)
            for name, value in ctx.history[-1].items()
            if isinstance(value, Real) and name != "epoch"
        ]
        new = [metric for metric in metrics if not self._is_there(metric)]
        self._client().log_batch(self.run_id, metrics=new)
        self.written = ctx.epoch

    def _is_there(self, metric: Any) -> bool:
        value = self.there.get((metric.key, metric.step))
        # an epoch trained again has the same values (NaN too), but for its time
        same = str(value) == str(metric.value) or metric.key == "duration"
        return value is not None and same


def _metrics_after(
    client: Any, run_id: str | None, epoch: int, cut_off: bool
) -> dict[tuple[str, int], float]:
    """Return the metrics of later epochs, of a run that was cut off, by name and step."""
    names = client.get_run(run_id).data.metrics if cut_off else ()
    found = (metric for name in names for metric in client.get_metric_history(run_id, name))
    return {(m.key, m.step): m.value for m in found if m.step > epoch}


def _name(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:LONGEST_NAME]
