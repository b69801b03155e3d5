"""Criteria for regression by name, and what a criterion may say of its predictions."""

from skorchlike.criteria.gaussian import GaussianNLL
from skorchlike.criteria.poisson import PoissonLoss
from skorchlike.criteria.quantile import QuantileLoss

__all__ = ["CRITERIA", "GaussianNLL", "PoissonLoss", "QuantileLoss"]

CRITERIA = {"quantile": QuantileLoss, "poisson": PoissonLoss, "gaussian_nll": GaussianNLL}
"""The registered names, for ``criterion="quantile"``."""
