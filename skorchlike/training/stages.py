"""The stages of the training loop: one table, from which everything else is derived.

The base class of callbacks, the checks made when a callback class is written, the
documentation and the tests read this table; the loop follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

ACTIONS = ("predict", "get_loss", "backward", "step", "zero_grad")
"""The five replaceable parts of a batch, in the order in which they run."""


@dataclass(frozen=True)
class Stage:
    """One row of the table: a stage, or an action between two stages.

    Parameters
    ----------
    name : str
        The stage, such as ``"on_batch_end"``, or the action, such as ``"step"``.
    level : str
        Where it stands: ``fit``, ``epoch``, ``train``, ``train_batch``, ``valid``,
        ``valid_batch``, ``predict`` or ``predict_batch``.
    meaning : str
        When it runs, in one line.
    phases : tuple of str
        The phases in which it runs. A stage shared by training and validation
        stands in the table once, where training has it.
    mlr3torch, luz, miniai : str
        Its names in those libraries, empty where they have none.
    """

    name: str
    level: str
    meaning: str
    phases: tuple[str, ...] = ("fit",)
    mlr3torch: str = ""
    luz: str = ""
    miniai: str = ""

    @property
    def is_action(self) -> bool:
        """Whether this row is an action."""
        return self.name in ACTIONS

    @property
    def is_exit(self) -> bool:
        """Whether it always runs, for every callback."""
        return self.name.endswith("_exit")

    @property
    def cancels(self) -> tuple[str, ...]:
        """Names of the cancel exceptions that have a meaning here."""
        if self.is_exit or self.name == "on_end" or "predict" in self.phases:
            return ()
        allowed = ["CancelFitException"]
        if self.level not in ("fit",) and self.name != "on_epoch_end":
            allowed.append("CancelEpochException")
        if self.level.endswith("_batch"):
            allowed.append("CancelBatchException")
        return tuple(allowed)


def _row(name: str, level: str, meaning: str, *, phases: str = "fit", **names: str) -> Stage:
    return Stage(name, level, meaning, tuple(phases.split()), **names)


TABLE: tuple[Stage, ...] = (
    _row(
        "on_begin",
        "fit",
        "Once, before the first epoch; the epoch is 0, or that of the fit continued.",
        mlr3torch="on_begin",
        luz="on_fit_begin",
        miniai="before_fit",
    ),
    _row(
        "on_epoch_begin",
        "epoch",
        "Each epoch begins; `history[-1]` is its record.",
        mlr3torch="on_epoch_begin",
        luz="on_epoch_begin",
    ),
    _row(
        "on_before_train",
        "train",
        "Before the first training batch of the epoch.",
        luz="on_train_begin",
        miniai="before_epoch (training)",
    ),
    _row(
        "on_batch_begin",
        "train_batch",
        "A training batch is on the device.",
        mlr3torch="on_batch_begin",
        luz="on_train_batch_begin",
        miniai="before_batch (training)",
    ),
    _row("predict", "train_batch", "`do_predict` assigns `ctx.y_pred`.", miniai="predict"),
    _row(
        "on_after_predict",
        "train_batch",
        "The module's output is in `ctx.y_pred`.",
        luz="on_train_batch_after_pred",
        miniai="after_predict (training)",
    ),
    _row("get_loss", "train_batch", "`do_get_loss` assigns `ctx.loss`.", miniai="get_loss"),
    _row(
        "on_after_loss",
        "train_batch",
        "The loss may be replaced, with gradients on; it is recorded afterwards.",
        luz="on_train_batch_after_loss",
        miniai="after_loss (training)",
    ),
    _row(
        "on_before_backward",
        "train_batch",
        "The loss is recorded; scaling for accumulation or precision belongs here.",
        luz="on_train_batch_before_backward",
    ),
    _row("backward", "train_batch", "`do_backward` computes the gradients.", miniai="backward"),
    _row(
        "on_after_backward",
        "train_batch",
        "After every backward; the last stage for `ctx.skip_step()`.",
        mlr3torch="on_after_backward",
        miniai="after_backward",
    ),
    _row(
        "on_before_step",
        "train_batch",
        "Before the optimizer's step, only when one will be taken.",
        luz="on_train_batch_before_step",
    ),
    _row("step", "train_batch", "`do_step` updates the parameters.", miniai="step"),
    _row(
        "on_after_step",
        "train_batch",
        "After the optimizer's step; gradients still readable.",
        luz="on_train_batch_after_step",
        miniai="after_step",
    ),
    _row(
        "on_batch_end",
        "train_batch",
        "The training batch is done; gradients still readable.",
        mlr3torch="on_batch_end",
        luz="on_train_batch_end",
        miniai="after_batch (training)",
    ),
    _row("zero_grad", "train_batch", "`do_zero_grad` clears the gradients.", miniai="zero_grad"),
    _row(
        "on_batch_exit",
        "train_batch",
        "Always, after every training and validation batch, also a cancelled one.",
        phases="fit valid",
        miniai="cleanup_batch",
    ),
    _row(
        "on_after_train",
        "train",
        "After the last training batch; `train_loss` is in the record.",
        luz="on_train_end",
        miniai="after_epoch (training)",
    ),
    _row(
        "on_phase_exit",
        "train",
        "Always, after the training and after the validation phase.",
        phases="fit valid",
        miniai="cleanup_epoch",
    ),
    _row(
        "on_before_valid",
        "epoch",
        "Every epoch after training, with or without validation.",
        mlr3torch="on_before_valid",
    ),
    _row(
        "on_valid_begin",
        "valid",
        "Validation begins: no gradients, module in eval mode.",
        phases="valid",
        luz="on_valid_begin",
        miniai="before_epoch (validation)",
    ),
    _row(
        "on_batch_valid_begin",
        "valid_batch",
        "A validation batch is on the device.",
        phases="valid",
        mlr3torch="on_batch_valid_begin",
        luz="on_valid_batch_begin",
        miniai="before_batch (validation)",
    ),
    _row("predict", "valid_batch", "`do_predict`, in eval mode.", phases="valid", miniai="predict"),
    _row(
        "on_batch_valid_after_predict",
        "valid_batch",
        "The module's output is in `ctx.y_pred`.",
        phases="valid",
        luz="on_valid_batch_after_pred",
        miniai="after_predict (validation)",
    ),
    _row(
        "get_loss",
        "valid_batch",
        "`do_get_loss`, without gradients.",
        phases="valid",
        miniai="get_loss",
    ),
    _row(
        "on_batch_valid_after_loss",
        "valid_batch",
        "The validation loss is in `ctx.loss`; it is recorded afterwards.",
        phases="valid",
        luz="on_valid_batch_after_loss",
        miniai="after_loss (validation)",
    ),
    _row(
        "on_batch_valid_end",
        "valid_batch",
        "The validation batch is done.",
        phases="valid",
        mlr3torch="on_batch_valid_end",
        luz="on_valid_batch_end",
        miniai="after_batch (validation)",
    ),
    _row(
        "on_valid_end",
        "valid",
        "Scores are in the record, the module is back in train mode.",
        phases="valid",
        mlr3torch="on_valid_end",
        luz="on_valid_end",
        miniai="after_epoch (validation)",
    ),
    _row(
        "on_epoch_end",
        "epoch",
        "Closes every epoch that the end of the fit did not cut off.",
        mlr3torch="on_epoch_end",
        luz="on_epoch_end",
    ),
    _row(
        "on_end",
        "fit",
        "The fit ends normally, by `ctx.terminate` or by `CancelFitException`.",
        mlr3torch="on_end",
        luz="on_fit_end",
        miniai="after_fit",
    ),
    _row(
        "on_exit",
        "fit",
        "Always, last; every callback's, even if one of them fails.",
        mlr3torch="on_exit",
        miniai="cleanup_fit",
    ),
    _row(
        "on_predict_begin",
        "predict",
        "`predict`, `predict_proba` or `score` begins.",
        phases="predict",
        luz="on_predict_begin",
    ),
    _row(
        "on_batch_predict_begin",
        "predict_batch",
        "A batch to predict is on the device.",
        phases="predict",
        luz="on_predict_batch_begin",
    ),
    _row("predict", "predict_batch", "`do_predict`, in eval mode.", phases="predict"),
    _row(
        "on_batch_predict_end",
        "predict_batch",
        "The batch's output is in `ctx.y_pred`.",
        phases="predict",
        luz="on_predict_batch_end",
    ),
    _row(
        "on_predict_end",
        "predict",
        "All batches are predicted.",
        phases="predict",
        luz="on_predict_end",
    ),
    _row(
        "on_predict_exit",
        "predict",
        "Always, at the end of a prediction.",
        phases="predict",
    ),
)
"""Every stage and action, in the order in which they run."""

STAGES: dict[str, Stage] = {row.name: row for row in TABLE if not row.is_action}
"""The stages at which callbacks run: name → row."""

PREDICT_STAGES = tuple(name for name, row in STAGES.items() if "predict" in row.phases)
FIT_STAGES = tuple(name for name in STAGES if name not in PREDICT_STAGES)
PROVIDERS = tuple(f"do_{action}" for action in ACTIONS)
"""The methods that replace an action: ``do_predict`` and so on."""


def _foreign_names() -> dict[str, str]:
    """Names of other libraries' stages → the names of ours."""
    foreign: dict[str, list[str]] = {}
    for row in STAGES.values():
        for names in (row.luz, row.miniai):
            name = names.partition(" ")[0]
            if name and name not in STAGES:
                foreign.setdefault(name, []).append(row.name)
    foreign["on_interrupt"] = ["on_exit"]
    return {name: " or ".join(ours) for name, ours in foreign.items()}


FOREIGN_NAMES = _foreign_names()
"""Stage names of luz and miniai that are called otherwise here → our names."""
