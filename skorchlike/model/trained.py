"""All that a fit produced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from sklearn.utils import Bunch


@dataclass(repr=False, eq=False)
class TrainedModel:
    """All that a fit produced; an estimator keeps it as ``model_``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained module, in eval mode.
    criterion_ : torch.nn.Module
        The criterion.
    optimizer_ : dict
        The optimizer's ``state_dict()``.
    callbacks_ : sklearn.utils.Bunch
        Name → state of each callback that has one: ``callbacks_["logger"]`` or
        ``callbacks_.logger``.
    history_ : list of dict
        The record of every epoch.
    n_epochs_ : int
        Number of epochs trained, those of continued fits included.
    stop_reason_ : str
        ``"completed"``, ``"terminated"``, ``"cancelled"``, ``"interrupted"`` or what a
        callback wrote.
    seed_ : int
        What all randomness of the fit came from.
    device_ : torch.device
        Where the module is.
    input_dtype_ : torch.dtype or None
        What inputs are cast to.
    continuation_ : dict
        What a continued fit needs beside: the state of the random generators, the
        counters, the optimizer's options, the classes of the callbacks.
    """

    module_: torch.nn.Module
    criterion_: torch.nn.Module
    optimizer_: dict[str, Any]
    callbacks_: Bunch
    history_: list[dict[str, Any]]
    n_epochs_: int
    stop_reason_: str | None
    seed_: int
    device_: torch.device
    input_dtype_: torch.dtype | None
    continuation_: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the class of the module, the epochs and the callbacks with a state."""
        states = ", ".join(self.callbacks_) or "none"
        return (
            f"TrainedModel({type(self.module_).__name__}, n_epochs_={self.n_epochs_}, "
            f"stop_reason_={self.stop_reason_!r}, callbacks_: {states})"
        )
