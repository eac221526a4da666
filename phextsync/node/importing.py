"""Importing many texts into a running node."""

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from phextsync.index import Coordinate
from phextsync.replica.replica import Replica

_IMPORTED_AT_ONCE: Final = 5000


async def import_texts(
    replica: Replica,
    scrolls: Iterable[tuple[Coordinate | str, str]],
    durable: Callable[[], Awaitable[object]],
    *,
    keep: bool,
) -> int:
    """Import texts, with `keep` only where there is none; return how many were taken. A few
    thousand are made `durable` at a time."""
    source = iter(scrolls)
    count = 0
    while some := list(islice(source, _IMPORTED_AT_ONCE)):
        with replica.batch():
            for place, text in some:
                if not keep or place not in replica:
                    replica.import_text(place, text)
                    count += 1
        await durable()
    return count
