"""Paths, dates and other small values in a file, as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID

from skorchlike.exceptions import FormatError

READERS: dict[str, Callable[[str], Any]] = {
    "Decimal": Decimal,
    "Fraction": lambda text: Fraction(*map(int, text.split("/"))),  # no exponents
    "Path": Path,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    "UUID": UUID,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
}


def _encode_as(kind: str) -> Callable[[Any, Any, str], Any]:
    return lambda encoder, value, where: {"$": "as text", "kind": kind, "text": str(value)}


def _encode_moment(encoder: Any, value: Any, where: str) -> Any:
    zone = getattr(value, "tzinfo", None)
    if getattr(value, "fold", 0) or not (zone is None or type(zone) is timezone):
        raise FormatError(
            f"{where or 'The value'} is a time in the zone {zone!r}: only fixed offsets can be "
            "written. Convert it to UTC."
        )
    return {"$": "as text", "kind": type(value).__name__, "text": value.isoformat()}


def _encode_duration(encoder: Any, value: timedelta, where: str) -> Any:
    return {"$": "timedelta", "parts": [value.days, value.seconds, value.microseconds]}


ENCODERS: dict[type, Callable[[Any, Any, str], Any]] = {
    Decimal: _encode_as("Decimal"),
    Fraction: _encode_as("Fraction"),
    PosixPath: _encode_as("Path"),
    PurePosixPath: _encode_as("PurePosixPath"),
    PureWindowsPath: _encode_as("PureWindowsPath"),
    UUID: _encode_as("UUID"),
    WindowsPath: _encode_as("Path"),
    date: _encode_moment,
    datetime: _encode_moment,
    time: _encode_moment,
    timedelta: _encode_duration,
}

DECODERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "as text": lambda decoder, node: READERS[node["kind"]](str(node["text"])),
    "timedelta": lambda decoder, node: timedelta(*map(int, node["parts"])),
}
