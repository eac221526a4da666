"""Shared lists and turns: what an agent's writes become in scrolls."""

import re
import time
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from phextsync.errors import ConflictError
from phextsync.files.entries import entries_of, entry_edits, with_entries
from phextsync.handles.phexts import Phext
from phextsync.hosts.journal import Item
from phextsync.index import Coordinate

LISTS: Final = {
    "memory": Coordinate.parse("1.2.1/1.1.1/1.1.1"),
    "user": Coordinate.parse("1.2.1/1.1.1/1.1.2"),
}
"""Where the lists that all agents share are: of facts, and of what is known of the user."""
TURNS: Final = "2.2.1"
"""The part before the day, below which the scrolls of sessions are."""
SAID_MAX: Final = 4000
"""Characters of what one side said in a turn that are kept."""

_TRIES_MAX: Final = 50
_PARTS: Final = 999
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def turn_place(item: Item) -> Coordinate:
    """Return where the turns of a session and day are written: `2.2.1/YEAR.MONTH.DAY/` and three
    numbers from a digest of the session and the agent."""
    day = time.gmtime(int(item["time"]))
    whose = f"{item['by']}\0{item['session']}".encode("utf-8", "surrogatepass")
    digest = int.from_bytes(blake2b(whose, digest_size=8).digest())
    parts = [digest // _PARTS**i % _PARTS + 1 for i in range(3)]
    date = f"{day.tm_year % 1000}.{day.tm_mon}.{day.tm_mday}"
    return Coordinate.parse(f"{TURNS}/{date}/{'.'.join(map(str, parts))}")


def turn_text(item: Item) -> str:
    """Return the lines of a turn, with its number in the first."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(item["time"])))
    said = (f"{who}: {_kept(item[who])}" for who in ("user", "assistant"))
    by = _UNFIT.sub(" ", item["by"])
    return "\n".join((f"## {when} UTC, {by} ({item['id']})", *said))


def change_list(phext: Phext, item: Item) -> None:
    """Add, replace or remove an entry of a list. Doing it again changes nothing; where somebody
    changes the list meanwhile, it is done again at once. ConflictError when that happens very
    often."""
    for _ in range(_TRIES_MAX - 1):
        with suppress(ConflictError):
            _change(phext, item)
            return
    _change(phext, item)


def _change(phext: Phext, item: Item) -> None:
    place = LISTS[item["target"]]
    seen = phext.get(place, "")
    wanted = _changed(seen, item)
    text = seen
    for start, stop, put_in in reversed(entry_edits(seen, wanted)):
        if stop > start:
            phext.delete(place, start, stop, seen=text)
            text = text[:start] + text[stop:]
        if put_in:
            phext.insert(place, start, put_in, seen=text)
            text = text[:start] + put_in + text[start:]


def _changed(text: str, item: Item) -> str:
    entries, new = entries_of(text), _UNFIT.sub(" ", item["text"])
    if item["kind"] == "add":
        return with_entries(text, [new])
    meant = [entry for entry in entries if item["old"] and item["old"] in entry]
    if len(meant) > 1:
        return text  # which one cannot be told
    if item["kind"] == "remove":
        return with_entries("", [entry for entry in entries if entry not in meant])
    if not meant:
        return with_entries(text, [new])
    return with_entries("", [new if entry in meant else entry for entry in entries])


def _kept(text: str) -> str:
    rest = len(text) - SAID_MAX
    whole = text if rest <= 0 else f"{text[:SAID_MAX]}... ({rest:,} characters more)"
    return _UNFIT.sub(" ", whole)
