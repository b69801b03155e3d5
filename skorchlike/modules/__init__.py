"""Built-in modules, by name."""

from skorchlike.modules.mlp import MLP

MODULES = {"mlp": MLP}
"""Registered names, as in ``module="mlp"``."""

__all__ = ["MLP", "MODULES"]
