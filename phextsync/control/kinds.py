"""Kinds: what operations take, and of which type it is."""

from dataclasses import dataclass
from types import UnionType
from typing import Final

from phextsync.control.frames import Value


@dataclass(frozen=True, slots=True)
class Argument:
    """What an operation takes at one place: what it is, and of which type."""

    what: str
    kind: type | UnionType
    is_optional: bool = False

    def check(self, value: Value) -> None:
        """TypeError when a value is of another type."""
        is_bool = isinstance(value, bool) and self.kind is not bool
        if is_bool or not isinstance(value, self.kind):
            raise TypeError(f"expected {self.what}, found {type(value).__name__}")


PHEXT: Final = Argument("the name of a phext", str)
AT: Final = Argument("a coordinate", str)
RANGE: Final = Argument("a range", str)
AFTER: Final = Argument("a coordinate or nothing", str)
A_TEXT: Final = Argument("a text", str)
OFFSET: Final = Argument("an offset in characters", int)
SEEN: Final = Argument("the digest of a text", bytes)
FLAG: Final = Argument("True or False", bool)
LAST: Final = Argument("a number or None", int | None)
LABEL: Final = Argument("a label", str)
A_LABEL: Final = Argument("a label or None", str | None)
A_NODE: Final = Argument("a node id", bytes)
ROWS: Final = Argument("a list", list)
A_NAME: Final = Argument("a path", str)
A_NUMBER: Final = Argument("the number of a conflict", str)
HOW_MANY: Final = Argument("a number", int)
