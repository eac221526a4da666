"""What a row of the table of operations says."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from phextsync.control.answers import Form
from phextsync.control.frames import Value
from phextsync.control.kinds import PHEXT, Argument
from phextsync.errors import PhextsyncError
from phextsync.phext_names import is_reserved

T = TypeVar("T")
U = TypeVar("U")


class Asked(Protocol):
    """What answers requests."""

    def ask(self, *request: Value) -> Value: ...


class Serving(Enum):
    """How an operation is served."""

    AT_ONCE = "answered at once"
    WAITS = "answered when it is done; others are answered meanwhile"
    LASTS = "answered at once, and lasts until it is cancelled or the process goes"


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[T]):
    """One row of the table, equal to itself alone. One that changes something is answered when it
    is on the disk."""

    name: str
    arguments: tuple[Argument, ...]
    answer: Form[T]
    about: str
    serving: Serving = Serving.AT_ONCE
    changes: bool = False
    is_about_files: bool = False
    """Whether it is about bound directories: `files.desk` answers it."""

    def ask(self, asked: Asked, *arguments: Value) -> T:
        """Ask for it, and read the answer."""
        return self.answer.decode(asked.ask(self.name, *arguments))

    def read_as(self, answer: Form[U]) -> "Operation[U]":
        """Return the operation with an answer that is read further."""
        how = self.serving, self.changes, self.is_about_files
        return Operation(self.name, self.arguments, answer, self.about, *how)

    def check(self, arguments: Iterable[Value]) -> None:
        """TypeError when an argument is of another type than the operation takes."""
        for argument, value in zip(self.arguments, arguments, strict=False):
            if type(value) is not argument.kind:  # nearly always it is
                argument.check(value)

    def check_phext(self, arguments: Iterable[Value]) -> None:
        """PhextsyncError when they name a phext that belongs to the library or a gateway."""
        for argument, value in zip(self.arguments, arguments, strict=False):
            if argument.what == PHEXT.what and isinstance(value, str) and is_reserved(value):
                raise PhextsyncError(
                    f"{value}: phexts whose names begin with a dot are the library's own"
                )
