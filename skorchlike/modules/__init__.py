"""Built-in modules, by name."""

from skorchlike.modules.ft_transformer import FTTransformer
from skorchlike.modules.mlp import MLP
from skorchlike.modules.realmlp import RealMLP
from skorchlike.modules.resnet import ResNet
from skorchlike.modules.tabm import TabM

MODULES = {
    "mlp": MLP,
    "resnet": ResNet,
    "ft_transformer": FTTransformer,
    "tabm": TabM,
    "realmlp": RealMLP,
}
"""Registered names, as in ``module="mlp"``."""

__all__ = ["MLP", "MODULES", "FTTransformer", "RealMLP", "ResNet", "TabM"]
