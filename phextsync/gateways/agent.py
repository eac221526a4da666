"""Agents: what a language model may ask of scrolls, and answers that it can use.

Tools as data, and `Agent`, which carries them out; no protocol. An answer is short texts of bounded
size; an error says what was wrong and what to do next.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Final, TypeAlias

from phextsync.aio import AsyncHandle, AsyncPhext
from phextsync.control.operations import OPERATIONS, Operation
from phextsync.control.performing import rest_of
from phextsync.crdt import check_text
from phextsync.errors import CoordinateError, PhextsyncError, StoreFullError, TextError
from phextsync.files.finding import is_coordinate
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import Change

PAGE_CHARACTERS: Final = 16_000
"""Text in one answer: about 4,000 tokens."""
PAGE_ROWS: Final = 100

_LINE_CHARACTERS: Final = 80
_RECENT_MAX: Final = 1000
_SEEN_CHARACTERS_MAX: Final = 4 << 20
_SEEN_MAX: Final = 4096
_TOKEN_BYTES: Final = 5

Argument: TypeAlias = str | int | bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a tool. One without a default is a text that has to be given."""

    name: str
    description: str
    default: Argument | None = None

    @property
    def kind(self) -> type:
        return str if self.default is None else type(self.default)

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of the argument."""
        schema: dict[str, object] = {
            "type": _SCHEMA_TYPES[self.kind],
            "description": self.description,
        }
        if self.default is not None:
            schema["default"] = self.default
        return schema


_SCHEMA_TYPES: Final = {str: "string", int: "integer", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Tool:
    """What can be asked for."""

    name: str
    description: str
    operation: Operation[object] | None
    """What it asks of the node in the end; None for what the agent notes itself."""
    parameters: tuple[Parameter, ...] = ()
    replaces: bool = False
    """Whether text may be gone afterwards."""

    @property
    def writes(self) -> bool:
        """Whether it changes scrolls."""
        return self.operation is not None and self.operation.changes

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of the arguments."""
        return {
            "type": "object",
            "properties": {item.name: item.schema() for item in self.parameters},
            "required": [item.name for item in self.parameters if item.default is None],
            "additionalProperties": False,
        }

    def arguments(self, given: Mapping[str, object]) -> list[Argument]:
        """Return the arguments in order, defaults filled in for what is left out or null, and whole
        floats as integers. PhextsyncError names what is wrong."""
        taken = ", ".join(item.name for item in self.parameters) or "no arguments"
        for name in given:
            if all(name != item.name for item in self.parameters):
                raise PhextsyncError(f"{self.name} has no argument {name!r:.40}; it takes {taken}")
        return [self._argument(item, given, taken) for item in self.parameters]

    def _argument(self, item: Parameter, given: Mapping[str, object], taken: str) -> Argument:
        value = given.get(item.name)
        if value is None:
            value = item.default
        if value is None:
            raise PhextsyncError(f"{self.name} needs {item.name!r}; it takes {taken}")
        if item.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str | int) and type(value) is item.kind:
            return value
        wanted = _SCHEMA_TYPES[item.kind]
        raise PhextsyncError(f"{self.name}: {item.name!r} has to be a {wanted}, not {value!r:.40}")


_COORDINATE: Final = Parameter(
    "coordinate",
    "Nine numbers from 1 to 999: 1.5.2/3.7.3/9.1.1; or a bound file, by its path.",
)
_PHEXT: Final = Parameter("phext", "Name of the collection of scrolls.", DEFAULT_PHEXT)
_RANGE: Final = Parameter(
    "range", "A prefix such as 2.* or 2.1.1/3.*; LOWER..UPPER; * is everything.", "*"
)

TOOLS: Final = {
    tool.name: tool
    for tool in (
        Tool(
            "read",
            "Read a scroll. Long ones come in pages: the answer names the next offset.",
            OPERATIONS["get"],
            (_COORDINATE, _PHEXT, Parameter("offset", "First character to read.", 0)),
        ),
        Tool(
            "write",
            "Make TEXT the whole text of a scroll. Read all of it first; what others write"
            " meanwhile is kept. Empty text deletes what you read. To add or change a part, use"
            " append or replace.",
            OPERATIONS["edit_from"],
            (
                _COORDINATE,
                Parameter("text", "The whole new text."),
                _PHEXT,
                Parameter("read", "The value of READ that the answer of read named, if any.", ""),
            ),
            replaces=True,
        ),
        Tool(
            "append",
            "Add TEXT as new lines at the end of a scroll, which is made if it does not exist.",
            OPERATIONS["append"],
            (_COORDINATE, Parameter("text", "What to add."), _PHEXT),
        ),
        Tool(
            "replace",
            "Replace exact text in a scroll. OLD has to stand in it exactly once.",
            OPERATIONS["replace"],
            (
                _COORDINATE,
                Parameter("old", "Exact text to replace, line breaks included."),
                Parameter("new", "What to put there; empty deletes OLD."),
                _PHEXT,
                Parameter("all", "Replace OLD wherever it stands.", False),
            ),
            replaces=True,
        ),
        Tool(
            "list",
            f"List scrolls: coordinate, bytes, first line. At most {PAGE_ROWS} in one answer,"
            " which names the value of AFTER for the next ones.",
            OPERATIONS["coordinates"],
            (_RANGE, _PHEXT, Parameter("after", "Begin behind this coordinate.", "")),
        ),
        Tool(
            "search",
            "Find scrolls that have all the words; the best come first.",
            OPERATIONS["search"],
            (
                Parameter("words", 'Words; "a phrase" in quotation marks; wor* for beginnings.'),
                _RANGE,
                _PHEXT,
                Parameter("limit", f"Results at most, up to {PAGE_ROWS}.", 10),
            ),
        ),
        Tool(
            "changes",
            "What was changed lately, and by whom. The answer names SINCE for the next call.",
            None,
            (Parameter("since", "Only what came after this number.", 0), _PHEXT),
        ),
        Tool(
            "peers",
            "The other machines: which are connected, and what they do not have yet.",
            OPERATIONS["status"],
        ),
    )
}


@dataclass(frozen=True, slots=True)
class _Noted:
    """A change of a scroll. No coordinate: so many changes that they were not counted."""

    number: int
    at_s: float
    who: str
    phext: str
    coordinate: Coordinate | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """The text of a scroll as somebody knows it: its first `known` characters."""

    text: str
    known: int

    @property
    def is_whole(self) -> bool:
        return self.known >= len(self.text)


@dataclass(frozen=True, slots=True)
class _Scroll:
    """A scroll that was asked for, and the path of the file that it is, if it is one."""

    phext: AsyncPhext
    place: Coordinate
    file: str

    def __str__(self) -> str:
        return self.file or str(self.place)


class _Views:
    """What each reader knows of scrolls, so that writing a whole scroll does only what its writer
    did to the text that it had read, and what others wrote since stays.

    A reader is a session. Who has none gets a token with a text that it reads whole, and shows it
    when it writes; equal texts have one token. What was not used for longest is forgotten.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], _Seen] = {}  # the oldest first
        self._characters = 0

    def of(self, reader: str, phext: str, place: Coordinate) -> _Seen | None:
        """Return what a reader knows of a scroll."""
        return self._seen.get((reader, phext, str(place)))

    def keep(self, session: str | None, phext: str, place: Coordinate, seen: _Seen) -> str:
        """Keep what somebody knows of a scroll now; return the token for it, "" for none."""
        if session is None and not seen.is_whole:
            return ""
        token = "" if session is not None else _token(seen.text)
        key = (_reader(session, token), phext, str(place))
        self._forget(key)
        self._seen[key] = seen
        self._characters += len(seen.text)
        while self._characters > _SEEN_CHARACTERS_MAX or len(self._seen) > _SEEN_MAX:
            self._forget(next(iter(self._seen)))
        return token

    def forget(self, session: str | None, phext: str, place: Coordinate) -> None:
        """Forget what a session knows of a scroll."""
        self._forget((_reader(session, ""), phext, str(place)))

    def _forget(self, key: tuple[str, str, str]) -> None:
        seen = self._seen.pop(key, None)
        self._characters -= 0 if seen is None else len(seen.text)


def _reader(session: str | None, token: str) -> str:
    return f"token {token}" if token or session is None else f"session {session}"


def _token(text: str) -> str:
    return blake2b(text.encode(), digest_size=_TOKEN_BYTES).hexdigest()


class Agent:
    """Carries out tools on a node. For one event loop.

    `session` names who asks: what it has read decides what it may write over. None is somebody who
    is not known from one call to the next.
    """

    def __init__(self, node: AsyncHandle) -> None:
        self._node = node
        self._numbers = count(1)
        self._noted: dict[tuple[str, Coordinate | None], _Noted] = {}  # the oldest first
        self._watched: dict[str, float] = {}
        self._views = _Views()
        self.on_change: Callable[[Change], None] = lambda change: None

    async def call(
        self, name: str, given: Mapping[str, object], session: str | None = ""
    ) -> list[str]:
        """Carry out a tool of `TOOLS`; PhextsyncError says what the caller should do."""
        try:
            return await self._call(name, TOOLS[name].arguments(given), session)
        except PhextsyncError as error:
            raise PhextsyncError(f"{error}. {_advice(error)}".strip()) from error

    async def _call(
        self, name: str, arguments: Sequence[Argument], session: str | None
    ) -> list[str]:
        match [name, *arguments]:
            case ["read", str(place), str(phext), int(offset)]:
                return await self._read(await self._scroll(phext, place), offset, session)
            case ["write", str(place), str(text), str(phext), str(token)]:
                check_text(text)
                scroll = await self._scroll(phext, place, is_new=bool(text))
                return await self._write(scroll, text, token.strip(), session)
            case ["append", str(place), str(text), str(phext)]:
                check_text(text)
                scroll = await self._scroll(phext, place, is_new=True)
                return await self._append(scroll, text, session)
            case ["replace", str(place), str(old), str(new), str(phext), bool(everywhere)]:
                scroll = await self._scroll(phext, place)
                return await self._replace(scroll, old, new, None if everywhere else 1, session)
            case ["list", str(range_), str(phext), str(after)]:
                return await self._list(self._phext(phext), range_, after)
            case ["search", str(words), str(range_), str(phext), int(limit)]:
                name = self._phext(phext).name
                return await self._search(words, name, CoordinateRange.parse(range_), limit)
            case ["changes", int(since), str(phext)]:
                return await self._changes(self._phext(phext).name, since)
            case _:
                return await self._peers()

    def _phext(self, name: str) -> AsyncPhext:
        if is_reserved(name):
            raise PhextsyncError(f"expected the name of a phext, found {name!r:.60}: it is hidden")
        return self._node.phext(name)

    async def _scroll(self, phext: str, place: str, *, is_new: bool = False) -> _Scroll:
        """Return the scroll that a coordinate or a file names; with `is_new` the file need not
        exist yet."""
        if is_coordinate(place):
            return _Scroll(self._phext(phext), Coordinate.parse(place), "")
        find = self._node.name_file if is_new else self._node.find_file
        file = await find(place)
        return _Scroll(self._phext(file.phext), file.coordinate, str(file))

    async def phexts(self) -> list[str]:
        """Return the names of the phexts that may be asked for, sorted."""
        return sorted(name for name in await self._node.phexts() if not is_reserved(name))

    # -- reading ---------------------------------------------------------------------------

    async def read(self, phext: str, place: Coordinate, session: str | None = "") -> str:
        """Return the text of a scroll for somebody who may write it next. PhextsyncError when
        there is none."""
        text = await self._text(self._phext(phext), place)
        self._views.keep(session, phext, place, _Seen(text, len(text)))
        return text

    async def _text(self, phext: AsyncPhext, place: Coordinate) -> str:
        text = await phext.get(place)
        if text is None:
            near = f"{str(place).split('.', 1)[0]}.*"
            raise PhextsyncError(
                f"there is no scroll at {place} in {phext.name}. Use list with a range such as"
                f" {near} or * to see what is there, or append to make it"
            )
        return text

    async def _read(self, scroll: _Scroll, offset: int, session: str | None) -> list[str]:
        phext, place = scroll.phext, scroll.place
        text = await self._text(phext, place)
        if not 0 <= offset < len(text):
            raise PhextsyncError(f"offset {offset} is outside of the {len(text)} characters")
        end = min(offset + PAGE_CHARACTERS, len(text))
        before = (
            None if session is None else self._views.of(_reader(session, ""), phext.name, place)
        )
        # Pages of two versions of a text are no text.
        known = before.known if before is not None and before.text == text else 0
        known = max(known, end) if offset <= known else known
        token = self._views.keep(session, phext.name, place, _Seen(text, known))
        page = text[offset:end]
        if len(page) == len(text):
            return [page, f"[to write it: read={token}]"] if token else [page]
        note = f"[characters {offset} to {end} of {len(text)}"
        return [page, f"{note}; go on with offset={end}]" if end < len(text) else f"{note}]"]

    async def rows(
        self, phext: AsyncPhext, range_: CoordinateRange | None
    ) -> AsyncGenerator[tuple[Coordinate, int, str]]:
        """Iterate over the scrolls in a range: coordinate, bytes, first line."""
        if range_ is not None:
            async with aclosing(phext.coordinates(range_)) as coordinates:
                async for coordinate in coordinates:
                    text = await phext.get(coordinate) or ""
                    line = text.strip().split("\n", 1)[0][:_LINE_CHARACTERS]
                    yield coordinate, len(text.encode()), line

    async def _list(self, phext: AsyncPhext, range_: str, after: str) -> list[str]:
        listed: list[tuple[Coordinate, str, str]] = []
        async with aclosing(self.rows(phext, rest_of(range_, after))) as rows:
            async for coordinate, size, line in rows:
                if len(listed) == PAGE_ROWS:
                    more = f"[there is more: go on with after={listed[-1][0]}]"
                    return ["\n".join(await self._lines(phext.name, listed)), more]
                listed.append((coordinate, f"{size}  ", line))
        if listed:
            return ["\n".join(await self._lines(phext.name, listed))]
        names = ", ".join(await self.phexts()) or "none"
        return [f"no scrolls in {range_} of {phext.name}; phexts that exist: {names}"]

    async def _search(
        self, words: str, phext: str, range_: CoordinateRange, limit: int
    ) -> list[str]:
        hits = await self._node.search(words, phext, range_, limit=min(limit, PAGE_ROWS))
        rows = [(hit.coordinate, "", " ".join(hit.snippet.split())) for hit in hits]
        lines = await self._lines(phext, rows)
        return [
            "\n".join(lines)
            or f"no scroll in {range_} of {phext} has all of {words!r:.80}; try fewer words,"
            " beginnings such as wor*, or list"
        ]

    async def _lines(self, phext: str, rows: list[tuple[Coordinate, str, str]]) -> list[str]:
        """Return lines about scrolls, with the names of those that are files."""
        files = await self._node.file_names([row[0] for row in rows], phext)
        return [
            f"{place}  {before}{files[place]}: {line}"
            if place in files
            else f"{place}  {before}{line}"
            for place, before, line in rows
        ]

    async def _peers(self) -> list[str]:
        status = await self._node.status()
        lines = [f"this is {status.name}"]
        for phext in status.phexts:
            if not is_reserved(phext.name):
                lines.append(f"phext {phext.name}: {phext.scrolls} scrolls")
        for peer in status.peers:
            missing = "; ".join(peer.lacks)
            state = f"does not have yet: {missing}" if missing else "has everything"
            lines.append(f"peer {peer.name} at {peer.address} {state}")
        if not status.peers:
            lines.append("no peer is connected: changes are kept, and sent when one is")
        for absent in status.absent:
            lines.append(f"not connected: {absent.name} at {absent.address}, {absent.reason}")
        lines += [f"warning: {warning}" for warning in status.warnings]
        return ["\n".join(lines[:PAGE_ROWS])]

    # -- writing ---------------------------------------------------------------------------

    async def _write(
        self, scroll: _Scroll, text: str, token: str, session: str | None
    ) -> list[str]:
        phext, place = scroll.phext, scroll.place
        before = await phext.get(place)
        seen = self._views.of(_reader(session, token), phext.name, place)
        if before and (seen is None or not seen.is_whole):
            raise PhextsyncError(_unread(scroll, before, seen, session))
        base = seen.text if seen is not None and seen.is_whole else ""
        await phext.edit_from(place, base, text)
        token = self._views.keep(session, phext.name, place, _Seen(text, len(text)))
        now = await phext.get(place, "") or ""
        if not text and not now:
            return [f"{scroll} is deleted"]
        both = "both are kept" if text else "that is kept"
        merged = "" if now == text else f"; others wrote in it since you read it, and {both}"
        again = f" [to write it again: read={token}]" if token else ""
        return [f"{scroll} has {len(now)} characters{merged}{again}"]

    async def _append(self, scroll: _Scroll, text: str, session: str | None) -> list[str]:
        phext, place = scroll.phext, scroll.place
        before = await phext.get(place, "") or ""
        start = "\n" if before and not before.endswith("\n") else ""
        added = start + text + ("" if text.endswith("\n") else "\n")
        await phext.append(place, added)
        if session is not None:
            self._note_append(session, phext.name, place, added, is_new=not before)
        return [f"added to {scroll}, which has {len(before) + len(added)} characters"]

    def _note_append(
        self, session: str, phext: str, place: Coordinate, added: str, *, is_new: bool
    ) -> None:
        seen = self._views.of(_reader(session, ""), phext, place)
        if seen is None and is_new:
            seen = _Seen("", 0)
        if seen is not None:
            text = seen.text + added
            known = len(text) if seen.is_whole else seen.known
            self._views.keep(session, phext, place, _Seen(text, known))

    async def _replace(
        self, scroll: _Scroll, old: str, new: str, times: int | None, session: str | None
    ) -> list[str]:
        phext, place = scroll.phext, scroll.place
        before = await self._text(phext, place)
        found = before.count(old) if old else 0
        if found == 0:
            raise PhextsyncError(
                f"{old!r:.60} does not stand in {scroll}. Read it and copy the text exactly"
            )
        if times is not None and found > times:
            raise PhextsyncError(
                f"{old!r:.60} stands {found} times in {scroll}. Give more of the text around the"
                " one you mean, or all=true"
            )
        await phext.replace(place, old, new, times)
        if session is not None:
            self._note_replace(session, phext.name, place, old, new)
        return [f"replaced {found} times in {scroll}" if times is None else f"replaced in {scroll}"]

    def _note_replace(
        self, session: str, phext: str, place: Coordinate, old: str, new: str
    ) -> None:
        seen = self._views.of(_reader(session, ""), phext, place)
        if seen is not None and seen.is_whole:
            text = seen.text.replace(old, new)
            self._views.keep(session, phext, place, _Seen(text, len(text)))
        else:
            self._views.forget(session, phext, place)

    # -- changes ---------------------------------------------------------------------------

    async def watch(self, phext: str) -> None:
        """Take note of the changes of a phext from now on. PhextsyncError when there is none."""
        followed = self._phext(phext)
        if phext not in self._watched and phext != DEFAULT_PHEXT:
            names = await self.phexts()
            if phext not in names:
                exist = ", ".join(names) or "none"
                raise PhextsyncError(f"there is no phext {phext!r:.60}; phexts that exist: {exist}")
        if phext not in self._watched:
            self._watched[phext] = time.time()
            await followed.subscribe(self._note)

    def _note(self, change: Change) -> None:
        who = change.label or (change.origin.hex()[:8] if change.origin else "this machine")
        for coordinate in [None] if change.missed is not None else change.coordinates:
            key = change.phext, coordinate
            self._noted.pop(key, None)
            self._noted[key] = _Noted(next(self._numbers), time.time(), who, *key)
        while len(self._noted) > _RECENT_MAX:
            del self._noted[next(iter(self._noted))]
        self.on_change(change)

    async def _changes(self, phext: str, since: int) -> list[str]:
        await self.watch(phext)
        now = time.time()
        noted = [row for row in self._noted.values() if row.phext == phext and row.number > since]
        shown = noted[-PAGE_ROWS:]
        if not shown:
            watched = _ago(now, self._watched[phext])
            return [f"no changes of {phext} after since={since}; watched for {watched}"]
        places = [row.coordinate for row in shown if row.coordinate is not None]
        files = await self._node.file_names(places, phext)
        lines = []
        for row in shown:
            file = None if row.coordinate is None else files.get(row.coordinate)
            what = f"{row.coordinate or 'many scrolls'}{'' if file is None else f' {file}'}"
            lines.append(f"{what}  by {row.who}  {_ago(now, row.at_s)} ago")
        older = len(noted) - len(shown)
        note = f"[next time: since={shown[-1].number}" + (
            f"; {older} older left out]" if older else "]"
        )
        return ["\n".join(lines), note]


def _unread(place: _Scroll, text: str, seen: _Seen | None, session: str | None) -> str:
    """Say why a scroll cannot be written over, and what to do."""
    others = "Or use append or replace, which keep the rest"
    if session is None and len(text) > PAGE_CHARACTERS:
        return (
            f"{place} has {len(text)} characters, too many to write over without a session. Use"
            " append or replace"
        )
    if session is None:
        return (
            f"{place} has text, and nothing says that you have read it. Read it, and give write the"
            f" value of READ that the answer names. {others}"
        )
    if seen is None:
        return f"{place} has {len(text)} characters that you have not read. Read it first. {others}"
    return (
        f"of the {len(text)} characters of {place} you have read {seen.known}. Read on with"
        f" offset={seen.known}, or from the start if it has changed. {others}"
    )


def _advice(error: PhextsyncError) -> str:
    match error:
        case CoordinateError():
            return (
                "A range may also be 2.* or 2.1.1/3.*, LOWER..UPPER, or *; list shows what is there"
            )
        case TextError():
            return "Leave that character out and try again"
        case StoreFullError():
            return "Nothing is lost; tell the user that the disk is full"
        case _:
            return ""


def _ago(now_s: float, then_s: float) -> str:
    seconds = max(0, int(now_s - then_s))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
