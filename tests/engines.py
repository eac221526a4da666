"""Handles with their engine at hand, for tests of what a handle asks of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from phextsync import Handle
from phextsync.handles.engine import Engine, Options

OPTIONS: Final[Options] = {"host": "127.0.0.1", "port": 0, "discover": False}


@contextmanager
def opened(folder: Path, peers: Sequence[str] = ()) -> Iterator[tuple[Engine, Handle]]:
    """Open a folder as `phextsync.open` does."""
    engine = Engine(folder, {**OPTIONS, "peers": peers})
    engine.start().result()
    with Handle(engine) as handle:
        yield engine, handle
