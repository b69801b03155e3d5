"""pandas' objects in a file: dtypes, indexes, series and frames."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from skorchlike.exceptions import DamagedFileError, FormatError


def encoder_of(value: Any) -> Callable[[Any, Any, str], Any] | None:
    """Return what encodes an object of pandas, or None if it is none."""
    pd = sys.modules.get("pandas")
    if pd is None or type(value).__module__.partition(".")[0] != "pandas":
        return None
    kinds: list[tuple[Any, Callable[[Any, Any, str], Any]]] = [
        (pd.api.extensions.ExtensionDtype, _encode_dtype),
        (pd.Index, _encode_index),
        (pd.Series, _encode_series),
        (pd.DataFrame, _encode_frame),
        (type(pd.NA), lambda encoder, value, where: {"$": "NA"}),
        (type(pd.NaT), lambda encoder, value, where: {"$": "NaT"}),
    ]
    return next((encode for kind, encode in kinds if isinstance(value, kind)), _refuse)


def _refuse(encoder: Any, value: Any, where: str) -> Any:
    raise FormatError(
        f"{where or 'The value'} is a {type(value).__name__} of pandas, which cannot be written. "
        "Make it an array, or keep the whole by pickle."
    )


def _encode_dtype(encoder: Any, value: Any, where: str) -> Any:
    import pandas as pd

    if isinstance(value, pd.CategoricalDtype):
        categories = encoder(value.categories, where)
        return {"$": "categories", "categories": categories, "ordered": value.ordered}
    if isinstance(value, pd.StringDtype):
        missing = encoder(value.na_value, where)
        return {"$": "strings", "storage": value.storage, "missing": missing}
    try:
        if pd.api.types.pandas_dtype(str(value)) == value:
            return {"$": "dtype of pandas", "name": str(value)}
    except TypeError:
        pass
    return _refuse(encoder, value, where)


def _encode_values(encoder: Any, value: Any, where: str) -> dict[str, Any]:
    """Return dtype and values of an index or series; of categories, their codes."""
    import pandas as pd

    dtype = value.dtype
    node = {"dtype": encoder(dtype, where)}
    if isinstance(dtype, pd.CategoricalDtype):
        codes = value.codes if isinstance(value, pd.CategoricalIndex) else value.cat.codes
        return {**node, "codes": encoder(np.asarray(codes), where)}
    if isinstance(dtype, np.dtype):
        return {**node, "values": encoder(np.array(value.to_numpy()), where)}
    items = value.tolist()
    if isinstance(dtype, pd.DatetimeTZDtype):
        items = value.to_numpy(dtype="datetime64[ns]")
    return {**node, "values": encoder(items, where)}


def _decode_values(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    dtype = decoder(node["dtype"])
    if "codes" in node:
        codes = decoder(node["codes"])
        if not isinstance(codes, np.ndarray) or not isinstance(dtype, pd.CategoricalDtype):
            raise DamagedFileError("Its content has categories without codes")
        return pd.Categorical.from_codes(codes, dtype=dtype)
    values = decoder(node["values"])
    if not isinstance(values, (list, np.ndarray)):
        raise DamagedFileError("Its content has a column without values")
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(dtype.tz).as_unit(dtype.unit)
    return pd.array(values, dtype=dtype) if not isinstance(dtype, np.dtype) else values


def _encode_index(encoder: Any, value: Any, where: str) -> Any:
    import pandas as pd

    if isinstance(value, pd.MultiIndex):
        return _refuse(encoder, value, where)
    if type(value) is pd.RangeIndex:
        steps = [value.start, value.stop, value.step]
        return {"$": "index", "range": steps, "label": encoder(value.name, where)}
    label = encoder(value.name, where)
    return {"$": "index", "label": label, **_encode_values(encoder, value, where)}


def _decode_index(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    name = decoder(node["label"])
    if "range" in node:
        start, stop, step = map(int, node["range"])
        return pd.RangeIndex(start, stop, step, name=name)
    values = _decode_values(decoder, node)
    return pd.Index(values, dtype=getattr(values, "dtype", None), name=name)


def _encode_series(encoder: Any, value: Any, where: str) -> Any:
    index, label = encoder(value.index, where), encoder(value.name, where)
    values = _encode_values(encoder, value, where)
    return {"$": "series", "index": index, "label": label, **values}


def _decode_series(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    index, name = decoder(node["index"]), decoder(node["label"])
    values = _decode_values(decoder, node)
    return pd.Series(values, index=index, name=name, dtype=getattr(values, "dtype", None))


def _encode_frame(encoder: Any, value: Any, where: str) -> Any:
    columns, index = encoder(value.columns, where), encoder(value.index, where)
    parts = [value.iloc[:, i] for i in range(value.shape[1])]
    values = [{"$": "column", **_encode_values(encoder, part, where)} for part in parts]
    return {"$": "frame", "index": index, "columns": columns, "values": values}


def _decode_frame(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    index, columns = decoder(node["index"]), decoder(node["columns"])
    values = [_decode_values(decoder, column) for column in node["values"]]
    parts = [pd.Series(part, index=index, dtype=getattr(part, "dtype", None)) for part in values]
    frame = pd.DataFrame(dict(enumerate(parts)), index=index)
    frame.columns = columns
    return frame


def _decode_categories(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.CategoricalDtype(decoder(node["categories"]), ordered=node["ordered"])


def _decode_strings(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    missing = decoder(node["missing"])
    if missing is not pd.NA and not isinstance(missing, float):
        raise DamagedFileError("Its content has strings with another missing value")
    return pd.StringDtype(node["storage"], na_value=missing)


def _decode_dtype(decoder: Any, node: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.api.types.pandas_dtype(str(node["name"]))


def _constant(name: str) -> Callable[[Any, dict[str, Any]], Any]:
    def decode_constant(decoder: Any, node: dict[str, Any]) -> Any:
        import pandas as pd

        return getattr(pd, name)

    return decode_constant


DECODERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "NA": _constant("NA"),
    "NaT": _constant("NaT"),
    "categories": _decode_categories,
    "dtype of pandas": _decode_dtype,
    "frame": _decode_frame,
    "index": _decode_index,
    "series": _decode_series,
    "strings": _decode_strings,
}
