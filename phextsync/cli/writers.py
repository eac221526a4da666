"""Who wrote and when, as commands print it and take it."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from phextsync.cli.common import existing_folder, fail, read_duration_s
from phextsync.control import operations
from phextsync.control.node_names import SHOWN_CHARACTERS, names_of, node_named
from phextsync.control.operations import Asked
from phextsync.discovery import PEERS_FILE, RememberedPeers
from phextsync.replica.taking_back import Writer


class NodeNames:
    """The names of the nodes that this one knows. Called with a node id, it gives the name, or the
    start of the id where that is not known. `own` is by what `writer` knows this node itself."""

    def __init__(self, asked: Asked, data: Path) -> None:
        status = operations.STATUS.ask(asked)
        remembered = RememberedPeers.load(existing_folder(data) / PEERS_FILE)
        self._names = {id_.hex(): remembered.name(id_) for id_ in remembered.seen_since(0)}
        self._names |= names_of(status)
        is_clear = [*self._names.values()].count(status.name) == 1 and "/" not in status.name
        self.own = status.name if is_clear else status.node_id

    def __call__(self, node_id: bytes) -> str:
        return self._names.get(node_id.hex()) or node_id.hex()[:SHOWN_CHARACTERS]

    def writer(self, text: str) -> Writer:
        """Read who wrote: a node, by its name, its id or the start of that, and, behind a slash,
        the label of one of its writers."""
        node, slash, label = text.partition("/")
        node_id = node_named(node, self._names, takes_any_id=True)
        return Writer(bytes.fromhex(node_id), label if slash else None)


def read_time_ms(text: str) -> int:
    """Read a time, or how long ago it is."""
    ago_s = read_duration_s(text)
    if ago_s is not None:
        return time.time_ns() // 1_000_000 - 1000 * ago_s
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        fail(f"expected a time such as '2026-02-28 09:30', or 2h or 3d for ago, found {text!r:.40}")


def told_time(time_ms: int) -> str:
    """Return a time as `read_time_ms` reads it."""
    try:
        return datetime.fromtimestamp(time_ms / 1000).isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):  # a clock that is no clock
        return f"{time_ms} ms"


def is_one_of(by: Writer, nodes: tuple[bytes | None, ...], labels: tuple[str, ...]) -> bool:
    """Whether a writer is one of those that wrote: nodes, under labels if they had any."""
    has_label = by.label is None or by.label in (labels or ("",))
    return by.node in nodes and has_label


def told_writers(
    writers: tuple[bytes, ...],
    seen_here: bool,
    names: Callable[[bytes], str],
    labels: tuple[str, ...] = (),
) -> str:
    """Return the names of nodes that wrote, and their labels there."""
    who = ", ".join(map(names, writers)) or "?"
    told = "/".join((who, *filter(None, [", ".join(labels)])))
    return told + (" (seen here)" if seen_here else "")


def json_row(row: dict[str, object], names: Callable[[bytes], str]) -> dict[str, object]:
    """Name the nodes in a row."""
    named: dict[str, object] = {}
    for field, value in row.items():
        if isinstance(value, bytes):
            named[field] = names(value) if value else None
        elif isinstance(value, tuple):
            named[field] = [names(item) if isinstance(item, bytes) else item for item in value]
        else:
            named[field] = value
    return named
