"""Answers in the array type of the question, as scikit-learn's array API dispatch wants it."""

from __future__ import annotations

from typing import Any

import sklearn
from torch import Tensor


def keeps_tensors(X: Any) -> bool:
    """Whether answers about X are to be tensors on its device.

    So it is with ``sklearn.config_context(array_api_dispatch=True)`` for a tensor X.
    """
    return isinstance(X, Tensor) and bool(sklearn.get_config()["array_api_dispatch"])
