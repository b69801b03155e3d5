"""What the snapshot in a checkpoint must be, before anything of it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np
from torch import Tensor

from skorchlike.exceptions import DamagedFileError

NUMBER = (int, float)

SNAPSHOT: dict[str, Any] = {
    "module": Mapping,
    "buffers": Mapping,
    "criterion": Mapping,
    "optimizer": Mapping,
    "gradients": Mapping,
    "modes": Mapping,
    "callbacks": Mapping,
    "history": list,
    "position": Mapping,
    "data": object,
    "rng": Mapping,
    "seed": int,
    "start": int,
    "max_epochs": int,
    "run_id": str,
    "identity": Mapping,
}
"""What ``ctx.snapshot()`` returns."""

POSITION: dict[str, Any] = {
    "epoch": int,
    "in_epoch": bool,
    "step": int,
    "global_step": int,
    "loss_total": NUMBER,
    "loss_weight": NUMBER,
    "last_loss": NUMBER,
    "terminate": bool,
    "stop_reason": (str, NoneType),
    "finished": bool,
    "elapsed": NUMBER,
}
"""Where the fit was."""

IDENTITY: dict[str, Any] = {
    "parameters": Mapping,
    "order": list,
    "data": Mapping,
    "split": str,
    "learned": str,
}
LARGEST = 2**53


def check_snapshot(snapshot: Any) -> None:
    """Refuse a snapshot in which a part is missing, or is of the wrong kind.

    Parameters
    ----------
    snapshot : object
        What was read.

    Raises
    ------
    DamagedFileError
        It names the part.
    """
    _check(snapshot, SNAPSHOT, "the snapshot")
    position, rng = snapshot["position"], snapshot["rng"]
    _check(position, POSITION, "the position")
    _check(snapshot["identity"], IDENTITY, "the identity")
    _check(snapshot["modes"], {"requires_grad": Mapping, "training": Mapping}, "the modes")
    _check(rng, {"torch": Tensor, "shuffle": Tensor, "loaders": Mapping, "globals": Mapping}, "rng")
    identity = snapshot["identity"]
    compared = [*identity["parameters"].values(), *identity["data"].values()]
    kept = snapshot["callbacks"].values()
    epoch, step, global_step = (position[name] for name in ("epoch", "step", "global_step"))
    checks = {
        "position": set(position) == set(POSITION),
        "optimizer": isinstance(snapshot["optimizer"].get("param_groups"), list),
        "gradients": all(isinstance(part, Tensor) for part in snapshot["gradients"].values()),
        "buffers": all(isinstance(part, Tensor) for part in snapshot["buffers"].values()),
        "callbacks": all(type(part) is tuple and len(part) == 2 for part in kept),
        "history": all(type(record) is dict for record in snapshot["history"]),
        "identity": all(isinstance(part, list) and len(part) == 2 for part in compared),
        "seed": snapshot["seed"] >= 0,
        "start": 0 <= snapshot["start"] <= epoch <= LARGEST,
        "epoch": len(snapshot["history"]) == epoch or not position["in_epoch"],
        "step": 0 <= step <= global_step <= LARGEST,
        "elapsed": math.isfinite(position["elapsed"]),
        "rng": _is_state_of_numpy(rng["globals"].get("numpy")),
    }
    for name, good in checks.items():
        if not good:
            raise DamagedFileError(f"its snapshot has a wrong {name!r}")


def _check(whole: Any, kinds: Mapping[str, Any], what: str) -> None:
    """Check that a mapping has parts of these kinds; true and false are no numbers."""
    if not isinstance(whole, Mapping):
        raise DamagedFileError(f"{what} is none")
    for name, kind in kinds.items():
        good = name in whole and isinstance(whole[name], kind)
        if not good or (isinstance(whole[name], bool) and kind not in (bool, object)):
            raise DamagedFileError(f"{what} has no {name!r} as it should be")


def _is_state_of_numpy(state: Any) -> bool:
    """Whether NumPy can take it; it would read at any place that it is told of."""
    if state is None:
        return True
    if isinstance(state, Mapping):
        inner = state.get("state")
        parts = [state.get("bit_generator")]
        parts += [inner.get("key"), inner.get("pos")] if isinstance(inner, Mapping) else []
    else:
        parts = list(state[:3]) if type(state) is tuple else []
    if len(parts) != 3 or parts[0] != "MT19937":
        return False
    _, key, place = parts
    ok = isinstance(key, np.ndarray) and key.shape == (624,)
    return bool(ok and isinstance(place, (int, np.integer)) and 0 <= place <= 624)
