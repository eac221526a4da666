"""Plain values: JSON and TOML from elsewhere, read up to a depth at which nobody fails who goes
through them. How deep Python reads by itself, and writes, depends on who calls.
"""

import json
import tomllib
from collections.abc import Callable
from typing import Any, Final, TypeVar

DEPTH_MAX: Final = 100
"""Levels of lists and objects in each other; what programs of ours write has a few."""

_decoder: Final = json.JSONDecoder()
_T = TypeVar("_T")


def read_json(text: str | bytes, parse_constant: Callable[[str], object] | None = None) -> Any:
    """Return the value that a text of JSON is. ValueError when it is none, or nested too deeply."""
    value = _within(lambda: json.loads(text, parse_constant=parse_constant))
    _check_depth(value)
    return value


def read_json_at(text: str, at: int = 0) -> tuple[Any, int]:
    """Return the value of JSON at an offset, and where it ends. ValueError as of `read_json`."""
    value, end = _within(lambda: _decoder.raw_decode(text, at))
    _check_depth(value)
    return value, end


def read_toml(text: str) -> dict[str, Any]:
    """Return the table that a text of TOML is. ValueError when it is none, `TOMLDecodeError` where
    the place is known, or nested too deeply."""
    table = _within(lambda: tomllib.loads(text))
    _check_depth(table)
    return table


def _within(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except RecursionError as error:
        raise _too_deep() from error


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        found = [each for each in level if isinstance(each, dict | list)]
        if not found:
            return
        level = [
            value for each in found for value in (each.values() if isinstance(each, dict) else each)
        ]
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"expected at most {DEPTH_MAX} levels of lists and objects, found more")
