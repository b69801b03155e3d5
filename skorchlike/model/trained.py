"""All that a fit produced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skorchlike.model.devices import portable, settled

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
    place_ : Placement
        The device and the dtypes of the module and of its inputs.
    inputs_ : Inputs
        What was learned of the inputs: a frame's columns, and how numbers are prepared.
    path_ : {"general", "direct", "hand-written", ""}
        Which way the training batches of the fit went: see the page on speed. Empty where nothing
        was trained.
    path_reason_ : str
        Why it was not a faster one; empty for the fastest.
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
    place_: Any
    inputs_: Any
    path_: str = ""
    path_reason_: str = ""
    continuation_: dict[str, Any] = field(default_factory=dict)

    @property
    def device_(self) -> torch.device:
        """Where the module is."""
        return self.place_.device

    @property
    def input_dtype_(self) -> torch.dtype | None:
        """What inputs are cast to."""
        return self.place_.input_dtype

    @property
    def preparation_(self) -> torch.nn.Module | None:
        """What is done to the numbers of a batch before the module gets them, or None."""
        return self.inputs_.preparation

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without tensors on an accelerator, which a reader may lack."""
        return portable(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the attributes, on the model's device or else, with a warning, the CPU."""
        vars(self).update(settled(state))

    def __repr__(self) -> str:
        """Return the class of the module, the epochs and the callbacks with a state."""
        states = ", ".join(self.callbacks_) or "none"
        return (
            f"TrainedModel({type(self.module_).__name__}, n_epochs_={self.n_epochs_}, "
            f"stop_reason_={self.stop_reason_!r}, callbacks_: {states})"
        )
