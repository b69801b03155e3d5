"""Where the random numbers of a fit come from; the global generators stay as they were."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def draw_seed(random_state: Any) -> int:
    """Return a seed; a generator that was passed is left as it was."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(copy.deepcopy(random_state).randint(2**31 - 1))
    return int(random_state)


@contextmanager
def private_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a fit, and put them back afterwards.

    They are global to the process: fits in parallel threads disturb one another.
    """
    cuda = []
    if device.type == "cuda":
        cuda = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=cuda):
        # not torch.manual_seed: it would seed the other devices too, unrestored
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield


def rng_state(device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Return the state of the generators that a fit uses."""
    state = {"torch": torch.get_rng_state(), "shuffle": generator.get_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: Mapping[str, Any], generator: torch.Generator) -> None:
    """Go on with the random numbers where an earlier fit stopped."""
    torch.set_rng_state(state["torch"])
    generator.set_state(state["shuffle"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class GlobalGenerators:
    """The global generators of Python and NumPy, which a fit does not use but what it calls may.

    They belong to the user: only those that have been drawn from since this was made are part
    of a checkpoint, and so only those are put back.
    """

    def __init__(self) -> None:
        self.before = _global_states()

    def state(self) -> dict[str, Any]:
        """Return the states of those that were drawn from."""
        now = _global_states()
        return {name: state for name, state in now.items() if not _same(state, self.before[name])}

    @staticmethod
    def restore(state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        if "python" in state:
            version, numbers, gauss = state["python"]
            random.setstate((version, tuple(numbers), gauss))
        if "numpy" in state:
            np.random.set_state(state["numpy"])  # noqa: NPY002


def _global_states() -> dict[str, Any]:
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {"python": random.getstate(), "numpy": numpy}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return all(_same(first[key], second[key]) for key in first)
    return bool(np.all(first == second))
