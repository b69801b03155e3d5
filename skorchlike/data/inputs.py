"""What a fit learns of its inputs, and how later inputs are brought into the same form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse

from skorchlike.data.frames import FrameSchema, is_frame
from skorchlike.data.preparation import Chunks, Preparation, learn_preparation
from skorchlike.data.rows import PIECE_ROWS, SCAN_BYTES, as_tensor, torch_dtype
from skorchlike.exceptions import ParameterError
from skorchlike.nested import is_nested, map_arrays


@dataclass
class Inputs:
    """What a fit has learned of its inputs.

    Attributes
    ----------
    schema : FrameSchema or None
        The columns of a frame.
    preparation : Preparation or None
        What is done to the rows of a batch.
    n_features : int or None
        Width of the rows as the module gets them; of a frame's, or of two-dimensional numbers.
        None for several inputs of one's own.
    cat_cardinalities : list of int
        Number of codes of each column of categories.
    fills : bool
        Whether missing numbers are taken.
    """

    schema: FrameSchema | None = None
    preparation: Preparation | None = None
    n_features: int | None = None
    cat_cardinalities: list[int] = field(default_factory=list)
    fills: bool = False

    def encode(self, X: Any, name: str = "X") -> Any:
        """Return checked inputs as arrays: those of a frame's columns, others as they are.

        Parameters
        ----------
        X : frame, array, or dict or tuple of arrays
            Checked inputs.
        name : str
            The argument's name, for errors.
        """
        if self.schema is not None and is_frame(X):
            arrays = as_arrays(self.schema, X, name)
            self._refuse_new_holes(arrays, name)
            return arrays
        if self.schema is not None and not self.schema.only_numbers:
            raise ParameterError(
                f"{name} must be a frame with the columns of the fit "
                f"({', '.join(map(str, self.schema.names[:5]))}, ...), some of which are no "
                f"numbers. Got a {type(X).__name__}."
            )
        if is_frame(X):
            schema = FrameSchema.learn(X, name=name)
            if not schema.only_numbers:
                raise ParameterError(
                    f"{name} has columns that are no numbers, and the fit had an array of numbers."
                )
            X = as_arrays(schema, X, name)
            self._refuse_new_holes(X, name)
        elif self.fills and not is_nested(X) and not issparse(X):
            self._refuse_new_holes(X, name)
        return X

    def _refuse_new_holes(self, arrays: Any, name: str) -> None:
        """Refuse missing numbers of a frame where nothing was learned to fill them."""
        numeric = arrays.get("numeric") if isinstance(arrays, dict) else arrays
        if self.preparation is None and numeric is not None and has_holes(numeric):
            raise ParameterError(
                f"{name} has missing numbers, and the training rows had none: nothing was "
                "learned to fill them. Impute them, or use a built-in module."
            )


def as_arrays(schema: FrameSchema, frame: Any, name: str) -> Any:
    """Return a frame as one array, if it has only numbers, else as a dict of two."""
    numeric, categorical = schema.encode(frame, name)
    if schema.only_numbers:
        return numeric
    parts = {"numeric": numeric, "categorical": categorical}
    return {key: part for key, part in parts.items() if part is not None}


def learn_inputs(
    X: Any,
    rows: np.ndarray | None,
    sample_weight: np.ndarray | None,
    *,
    transform: Any,
    fills: bool,
    seed: int,
) -> tuple[Inputs, Any]:
    """Learn from the training rows what a frame's columns are and what their numbers need.

    Parameters
    ----------
    X : frame, array, csr_array, or dict or tuple of arrays
        Checked inputs.
    rows : ndarray of int or None
        The training rows; None is all.
    sample_weight : ndarray of shape (n,) or None
        Weights of all rows.
    transform : None, str or transformer
        How numbers are transformed; None where they are not.
    fills : bool
        Whether holes are filled even without a transform.
    seed : int
        For a transform that draws rows.

    Returns
    -------
    inputs : Inputs
        What was learned.
    arrays : array, or dict or tuple of arrays
        X as arrays.
    """
    inputs = Inputs(fills=fills)
    if is_frame(X):
        inputs.schema = schema = FrameSchema.learn(X, rows, "X")
        inputs.cat_cardinalities = list(schema.cat_cardinalities)
        X = as_arrays(schema, X, "X")
    numeric = numbers_of(X, inputs.schema)
    if numeric is None:
        inputs.n_features = _width(X, inputs.schema)
        return inputs, X
    inputs.n_features = int(numeric.shape[1])
    if inputs.schema is not None:
        fills = fills or any(has_holes(part) for part in _pieces(numeric, rows))
    if transform is not None or fills:
        chunks = chunks_of(numeric, rows, sample_weight)
        inputs.preparation = learn_preparation(chunks, transform, seed)
        inputs.n_features = inputs.preparation.n_outputs
    return inputs, X


def _width(X: Any, schema: FrameSchema | None) -> int | None:
    """Return the width of the rows of inputs that are not prepared."""
    if schema is not None:
        return 0  # categories alone
    if isinstance(X, dict):
        X = X.get("numeric")  # in the form of a frame with categories
    return None if X is None or is_nested(X) or X.ndim < 2 else int(X.shape[1])


def check_can_transform(X: Any, transform: Any) -> None:
    """Refuse a transform that was asked for where there are no columns of numbers."""
    if transform is None or is_frame(X):
        return
    if numbers_of(X, None) is None:
        what = "sparse rows" if issparse(X) else "several arrays" if is_nested(X) else None
        what = what or f"an array of shape {tuple(X.shape)}"
        raise ParameterError(
            f"The `numeric_transform` parameter ({transform!r}) is for columns of numbers, an "
            f"array of shape (n, n_features) or a frame. X is {what}: set "
            "numeric_transform='auto', and scale X beforehand if it needs that."
        )


def numbers_of(X: Any, schema: FrameSchema | None) -> Any:
    """Return the columns of numbers that can be prepared, or None."""
    if schema is not None and isinstance(X, dict):
        return X.get("numeric")
    if is_nested(X) or issparse(X) or X.ndim != 2:
        return None
    return X


def has_holes(x: Any) -> bool:
    """Whether numbers are missing; integers never are."""
    tensor = as_tensor(x)
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _pieces(X: Any, rows: np.ndarray | None) -> Iterable[Any]:
    step = max(1, SCAN_BYTES // max(1, X[:1].nbytes))
    n_rows = len(X) if rows is None else len(rows)
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        yield X[part] if rows is None else X[_positions(X, rows[part])]


def _positions(X: Any, rows: np.ndarray) -> Any:
    return torch.from_numpy(rows).to(X.device) if isinstance(X, torch.Tensor) else rows


def chunks_of(X: Any, rows: np.ndarray | None, sample_weight: np.ndarray | None) -> Chunks:
    """Return what yields the training rows, a few megabytes at a time."""

    def weight_of(start: int, stop: int) -> np.ndarray:
        part = slice(start, stop)
        return sample_weight[part if rows is None else rows[part]]  # type: ignore[index]

    largest = None
    if sample_weight is not None:
        n_rows = len(sample_weight if rows is None else rows)
        starts = range(0, n_rows, PIECE_ROWS)
        largest = max(weight_of(start, start + PIECE_ROWS).max() for start in starts)

    def chunks() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
        start = 0
        for part in _pieces(X, rows):
            stop = start + len(part)
            # only their ratios count, and float32 holds those
            weight = None if largest is None else weight_of(start, stop) / largest
            yield as_numbers(part), weight
            start = stop

    return chunks


def as_numbers(part: Any) -> np.ndarray:
    """Return rows as an ndarray that NumPy can compute with."""
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu()
        part = (part.float() if part.dtype in (torch.bfloat16, torch.float16) else part).numpy()
    # sums depend on the order in memory, and must not differ with it
    return np.ascontiguousarray(part)


def input_dtype(X: Any) -> torch.dtype:
    """Return the dtype that a module follows: that of the numbers."""
    if is_nested(X):
        found: list[torch.dtype] = []
        map_arrays(lambda array: found.append(torch_dtype(array)), X)
        floating = [dtype for dtype in found if dtype.is_floating_point]
        return floating[0] if floating else torch.get_default_dtype()
    return torch_dtype(X)
