"""Which rows train and which validate."""

from __future__ import annotations

import math

import numpy as np

from skorchlike.data.rows import all_rows, in_chunks, in_pieces, rows_where
from skorchlike.exceptions import ParameterError


def split_rows(
    rows: np.ndarray | int,
    fraction: float,
    seed: int,
    labels: np.ndarray | None,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into training and validation ones.

    The parts are those of scikit-learn's ``train_test_split`` with this seed, which takes about
    80 bytes a row for them. Here they are marked, row by row, in 2, and all takes about 10.

    Parameters
    ----------
    rows : ndarray of int of shape (n,), or int
        The rows to split, sorted; a number n stands for the first n.
    fraction : float
        Share of the validation rows, between 0 and 1.
    seed : int
        Makes the split.
    labels : ndarray of int of shape (n,) or None
        Labels of the rows, whose shares both parts keep.
    classes : ndarray or None
        What the labels stand for, for errors.

    Returns
    -------
    train_rows, valid_rows : ndarray of int
        Sorted, so that data are read in order; int32 where that holds a number.

    Raises
    ------
    ParameterError
        If there are too few rows, or too few of a class.

    Examples
    --------
    >>> from skorchlike.data.split import split_rows
    >>> split_rows(6, 0.3, 0, None)
    (array([0, 1, 3, 4], dtype=int32), array([2, 5], dtype=int32))
    """
    n = rows if isinstance(rows, int) else len(rows)
    n_valid = math.ceil(fraction * n)
    counts = None if labels is None else _counts(labels)
    reason = _too_few(n - n_valid, n_valid, counts, classes)
    if reason:
        raise ParameterError(
            f"The `validation_fraction` parameter ({fraction}) cannot split {n} rows: "
            f"{reason} Pass X_val and y_val to fit, or set validation_fraction=None."
        )
    # the legacy generator and its calls are those of scikit-learn
    rng = np.random.RandomState(seed)
    if labels is None or counts is None:
        valid = _marked(n, 0, n_valid, rng)
    else:
        valid = _spread(labels, counts, _marked_by_class(counts, n_valid, rng))
    train = np.logical_not(valid)
    if isinstance(rows, int):
        return rows_where(train), rows_where(valid)
    return rows[train], rows[valid]


def _marked(n: int, start: int, stop: int, rng: np.random.RandomState) -> np.ndarray:
    """Shuffle n positions, and mark those that come at `start` to `stop`."""
    order = all_rows(n)
    rng.shuffle(order)
    marks = np.zeros(n, dtype=bool)
    for part in in_chunks(order[start:stop]):
        marks[part] = True
    return marks


def _marked_by_class(counts: np.ndarray, n_valid: int, rng: np.random.RandomState) -> np.ndarray:
    """Mark the validation rows among rows that are sorted by their labels."""
    counts = counts[counts > 0]
    n_train = _shares(counts, int(counts.sum()) - n_valid, rng)
    n_valid_of = _shares(counts - n_train, n_valid, rng)
    parts = [
        _marked(n, start, start + more, rng)
        for n, start, more in zip(*(x.tolist() for x in (counts, n_train, n_valid_of)), strict=True)
    ]
    return np.concatenate(parts)


def _spread(labels: np.ndarray, counts: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Bring marks of rows sorted by their labels into the order of the rows."""
    # where each class goes on among the sorted rows
    place = np.cumsum(counts) - counts
    spread = np.empty(len(labels), dtype=bool)
    start = 0
    for part in in_pieces(labels):
        order = np.argsort(part, kind="stable")
        n_of = np.bincount(part, minlength=len(counts))
        shift = place - (np.cumsum(n_of) - n_of)
        spread[start : start + len(part)][order] = marks[
            np.repeat(shift, n_of) + np.arange(len(part))
        ]
        place += n_of
        start += len(part)
    return spread


def _counts(labels: np.ndarray) -> np.ndarray:
    """Return how many rows each label has."""
    n_labels = int(labels.max()) + 1 if len(labels) else 0
    counts = np.zeros(n_labels, dtype=np.int64)
    for part in in_pieces(labels):
        counts += np.bincount(part, minlength=n_labels)
    return counts


def _shares(counts: np.ndarray, n_drawn: int, rng: np.random.RandomState) -> np.ndarray:
    """Return how many rows to draw from each class, in all `n_drawn`.

    Shares are rounded down, and what is missing then goes to the largest remainders; ties are
    broken at random, as in ``StratifiedShuffleSplit`` of scikit-learn, which this follows.
    """
    exact = counts / counts.sum() * n_drawn
    drawn = np.floor(exact)
    remainder = exact - drawn
    missing = int(n_drawn - drawn.sum())
    for value in np.unique(remainder)[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(remainder == value)
        n_more = min(len(tied), missing)
        drawn[rng.choice(tied, size=n_more, replace=False)] += 1
        missing -= n_more
    return drawn.astype(np.int64)


def _too_few(
    n_train: int, n_valid: int, counts: np.ndarray | None, classes: np.ndarray | None
) -> str:
    """Say what there is too little of, classes by the user's labels; else return ''."""
    if n_train < 1:
        return "none would be left for training."
    if counts is None:
        return ""
    single = np.flatnonzero(counts == 1)
    if len(single):
        named = single if classes is None else classes[single]
        return (
            f"each class needs two rows at least, and {named.tolist()[:5]} "
            f"{'has' if len(single) == 1 else 'have'} one."
        )
    n_classes = np.count_nonzero(counts)
    for n_rows, what in ((n_train, "training"), (n_valid, "validation")):
        if n_rows < n_classes:
            return (
                f"the {what} rows are {n_rows}, fewer than the number of classes = {n_classes}, "
                "and each class needs one."
            )
    return ""
