"""Eval mode for the time of a validation or prediction."""

from __future__ import annotations

import torch


class InEvalMode:
    """Put a module into eval mode, and afterwards each part back as it was.

    Parts that were in eval mode before (frozen batch norms) stay so.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.in_training = [part for part in self.module.modules() if part.training]
        if self.in_training:
            self.module.eval()

    def __exit__(self, *exc_info: object) -> None:
        for part in self.in_training:
            part.training = True
