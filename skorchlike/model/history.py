"""The records of the epochs as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("epoch", "train_loss", "valid_loss")
LAST = ("lr", "duration")


def history_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the records as a DataFrame, one row an epoch.

    Parameters
    ----------
    records : list of dict
        One dict an epoch.

    Returns
    -------
    pandas.DataFrame
        Columns: ``epoch``, ``train_loss``, ``valid_loss``, those logged by callbacks and
        scores in the order in which they came, ``lr`` and ``duration`` (seconds). A
        column that an epoch lacks is missing there.
    """
    import pandas as pd  # costs half a second, and few fits are looked at

    names = dict.fromkeys(name for record in records for name in record)
    middle = [name for name in names if name not in FIRST + LAST]
    columns = [*(n for n in FIRST if n in names), *middle, *(n for n in LAST if n in names)]
    return pd.DataFrame.from_records(records, columns=columns or ["epoch"])
