"""Eval mode for the time of a validation or prediction."""

from __future__ import annotations

import torch


class InEvalMode:
    """Put a module into eval mode, and afterwards each part back as it was.

    Parts that were in eval mode before (frozen batch norms) stay so. Of a module that is in
    eval mode nothing is written.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.in_training = _parts_in_training(self.module)
        if self.in_training:
            self.module.eval()

    def __exit__(self, *exc_info: object) -> None:
        for part in self.in_training:
            part.training = True


def _parts_in_training(module: torch.nn.Module) -> list[torch.nn.Module]:
    # `module.modules()` nests a generator for each level, which takes longer than one row
    parts, found = [module], {module}
    for part in parts:
        for child in part._modules.values():
            if child is not None and child not in found:
                found.add(child)
                parts.append(child)
    return [part for part in parts if part.training]
