"""Options of a node and times to wait, as a program gives them: looked at before they are used."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.index import CoordinateRange

_PORT_MAX: Final = 65_535
_FOR_EVER_S: Final = 1e9


def folder_of(folder: str | Path) -> Path:
    """Return a data folder. TypeError when it is no path, PhextsyncError when it names nothing."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"expected the path of a data folder, found {type(folder).__name__}")
    text = os.fspath(folder)
    if not text or "\0" in text:
        raise PhextsyncError(f"expected the path of a data folder, found {text!r:.80}")
    return Path(folder).expanduser()


def check_options(
    host: str | None,
    port: int | None,
    peers: Sequence[str],
    interests: Mapping[str, Sequence[CoordinateRange]] | None,
    links_max: int,
) -> None:
    """TypeError when an option is of another type, PhextsyncError when it is out of bounds."""
    if not isinstance(host, str | None):
        raise TypeError(f"expected an address as host, found {type(host).__name__}")
    if host == "":
        raise PhextsyncError("expected an address as host, or None for all, found ''")
    for name, number, least, most in (
        ("port", 0 if port is None else port, 0, _PORT_MAX),
        ("links_max", links_max, 1, math.inf),
    ):
        if type(number) is not int:
            raise TypeError(f"expected a number as {name}, found {type(number).__name__}")
        if not least <= number <= most:
            raise PhextsyncError(f"expected {name} from {least} to {most}, found {number!r:.20}")
    if not _are(peers, str):
        raise TypeError(f"expected a list of addresses as peers, found {peers!r:.80}")
    if interests is not None and not isinstance(interests, Mapping):
        raise TypeError(f"expected ranges by phext, found {type(interests).__name__}")
    for phext, ranges in (interests or {}).items():
        if not _are(ranges, CoordinateRange):
            raise TypeError(f"expected ranges of {phext!r:.80}, found {ranges!r:.80}")


def _are(values: object, kind: type) -> bool:
    """Whether values are of a kind; not of what can be gone through but once."""
    if isinstance(values, str) or not isinstance(values, Collection):
        return False
    return all(isinstance(each, kind) for each in values)


def seconds_of(timeout_s: float | None) -> float | None:
    """Return how long to wait: 0 for a time that is over, None for ever, as for 30 years and more.
    TypeError when it is no number, PhextsyncError when it is not a number."""
    if timeout_s is None:
        return None
    if type(timeout_s) is bool or not isinstance(timeout_s, int | float):
        raise TypeError(f"expected seconds to wait, found {type(timeout_s).__name__}")
    if timeout_s != timeout_s:
        raise PhextsyncError(f"expected seconds to wait, found {timeout_s}")
    return None if timeout_s >= _FOR_EVER_S else float(max(0, timeout_s))


def limit_of(timeout_s: float | None) -> float:
    """Return it as a number, infinite for ever; errors as of `seconds_of`."""
    wait_s = seconds_of(timeout_s)
    return math.inf if wait_s is None else wait_s
