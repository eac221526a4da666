"""Changes that are gathered, to be made together."""

from phextsync.control.frames import Value
from phextsync.handles.requests import at, seen_as
from phextsync.replica.views import Key


class Batch:
    """Changes to one phext that are to be made together; see `Phext.batch`."""

    def __init__(self) -> None:
        self.changes: list[Value] = []

    def __setitem__(self, key: Key, text: str) -> None:
        self.edit(key, text)

    def __delitem__(self, key: Key) -> None:
        self.changes.append(["remove", at(key)])

    def edit(self, key: Key, text: str, *, seen: str | None = None) -> None:
        self.changes.append(["set", at(key), text, seen_as(seen)])

    def append(self, key: Key, text: str) -> None:
        self.changes.append(["append", at(key), text])

    def insert(self, key: Key, offset: int, text: str, *, seen: str | None = None) -> None:
        self.changes.append(["splice", at(key), offset, offset, text, seen_as(seen)])

    def delete(self, key: Key, start: int, stop: int, *, seen: str | None = None) -> None:
        self.changes.append(["splice", at(key), start, stop, "", seen_as(seen)])

    def import_text(self, key: Key, text: str) -> None:
        self.changes.append(["import", False, [[at(key), text]]])
