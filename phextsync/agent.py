"""Agents: what a language model may ask of scrolls, and answers that it can use.

Tools as data, and `Agent`, which carries them out; no protocol. An answer is short texts of bounded
size; an error says what was wrong and what to do next.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeAlias

from phextsync.aio import AsyncHandle, AsyncPhext
from phextsync.changes import Change
from phextsync.control import rest_of
from phextsync.errors import CoordinateError, PhextsyncError, StoreFullError, TextError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node import DEFAULT_PHEXT

PAGE_CHARACTERS: Final = 16_000
"""Text in one answer: about 4,000 tokens."""
PAGE_ROWS: Final = 100

_LINE_CHARACTERS: Final = 80
_RECENT_MAX: Final = 1000
_SEEN_CHARACTERS_MAX: Final = 4 << 20

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
    parameters: tuple[Parameter, ...] = ()
    writes: bool = False
    replaces: bool = False
    """Whether text may be gone afterwards."""

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of the arguments."""
        return {
            "type": "object",
            "properties": {item.name: item.schema() for item in self.parameters},
            "required": [item.name for item in self.parameters if item.default is None],
            "additionalProperties": False,
        }

    def arguments(self, given: Mapping[str, object]) -> list[Argument]:
        """Return the arguments in order, defaults filled in. PhextsyncError names what is wrong."""
        taken = ", ".join(item.name for item in self.parameters) or "no arguments"
        for name in given:
            if all(name != item.name for item in self.parameters):
                raise PhextsyncError(f"{self.name} has no argument {name!r:.40}; it takes {taken}")
        return [self._argument(item, given, taken) for item in self.parameters]

    def _argument(self, item: Parameter, given: Mapping[str, object], taken: str) -> Argument:
        value = given.get(item.name, item.default)
        if value is None:
            raise PhextsyncError(f"{self.name} needs {item.name!r}; it takes {taken}")
        if isinstance(value, str | int) and type(value) is item.kind:
            return value
        wanted = _SCHEMA_TYPES[item.kind]
        raise PhextsyncError(f"{self.name}: {item.name!r} has to be a {wanted}, not {value!r:.40}")


_COORDINATE: Final = Parameter("coordinate", "Nine numbers from 1 to 999: 1.5.2/3.7.3/9.1.1")
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
            (_COORDINATE, _PHEXT, Parameter("offset", "First character to read.", 0)),
        ),
        Tool(
            "write",
            "Make TEXT the whole text of a scroll. Read it first; what others write meanwhile is"
            " kept. Empty text deletes the scroll. To add or change a part, use append or replace.",
            (_COORDINATE, Parameter("text", "The whole new text."), _PHEXT),
            writes=True,
            replaces=True,
        ),
        Tool(
            "append",
            "Add TEXT as new lines at the end of a scroll, which is made if it does not exist.",
            (_COORDINATE, Parameter("text", "What to add."), _PHEXT),
            writes=True,
        ),
        Tool(
            "replace",
            "Replace exact text in a scroll. OLD has to stand in it exactly once.",
            (
                _COORDINATE,
                Parameter("old", "Exact text to replace, line breaks included."),
                Parameter("new", "What to put there; empty deletes OLD."),
                _PHEXT,
                Parameter("all", "Replace OLD wherever it stands.", False),
            ),
            writes=True,
            replaces=True,
        ),
        Tool(
            "list",
            f"List scrolls: coordinate, bytes, first line. At most {PAGE_ROWS} in one answer,"
            " which names the value of AFTER for the next ones.",
            (_RANGE, _PHEXT, Parameter("after", "Begin behind this coordinate.", "")),
        ),
        Tool(
            "search",
            "Find scrolls that have all the words; the best come first.",
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
            (Parameter("since", "Only what came after this number.", 0), _PHEXT),
        ),
        Tool(
            "peers",
            "The other machines: which are connected, and what they do not have yet.",
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


class Agent:
    """Carries out tools on a node. For one event loop.

    It remembers which text of a scroll was read last, so that writing the whole scroll does only
    what its writer did to that text, and what others wrote since stays.
    """

    def __init__(self, node: AsyncHandle) -> None:
        self._node = node
        self._numbers = count(1)
        self._noted: dict[tuple[str, Coordinate | None], _Noted] = {}  # the oldest first
        self._watched: dict[str, float] = {}
        self._seen: dict[tuple[str, str], str] = {}  # the oldest first
        self._seen_characters = 0
        self.on_change: Callable[[Change], None] = lambda change: None

    async def call(self, name: str, given: Mapping[str, object]) -> list[str]:
        """Carry out a tool of `TOOLS`; PhextsyncError says what the caller should do."""
        try:
            return await self._call(name, TOOLS[name].arguments(given))
        except PhextsyncError as error:
            raise PhextsyncError(f"{error}. {_advice(error)}".strip()) from error

    async def _call(self, name: str, arguments: Sequence[Argument]) -> list[str]:
        match [name, *arguments]:
            case ["read", str(coordinate), str(phext), int(offset)]:
                return await self._read(self._node.phext(phext), _place(coordinate), offset)
            case ["write", str(coordinate), str(text), str(phext)]:
                return await self._write(self._node.phext(phext), _place(coordinate), text)
            case ["append", str(coordinate), str(text), str(phext)]:
                return await self._append(self._node.phext(phext), _place(coordinate), text)
            case ["replace", str(coordinate), str(old), str(new), str(phext), bool(everywhere)]:
                scroll = self._node.phext(phext), _place(coordinate)
                return await self._replace(*scroll, old, new, None if everywhere else 1)
            case ["list", str(range_), str(phext), str(after)]:
                return await self._list(self._node.phext(phext), range_, after)
            case ["search", str(words), str(range_), str(phext), int(limit)]:
                return await self._search(words, phext, CoordinateRange.parse(range_), limit)
            case ["changes", int(since), str(phext)]:
                return await self._changes(self._node.phext(phext).name, since)
            case _:
                return await self._peers()

    # -- reading ---------------------------------------------------------------------------

    async def read(self, phext: str, place: Coordinate) -> str:
        """Return the text of a scroll for somebody who may write it next. PhextsyncError when
        there is none."""
        text = await self._text(self._node.phext(phext), place)
        self._remember((phext, str(place)), text)
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

    async def _read(self, phext: AsyncPhext, place: Coordinate, offset: int) -> list[str]:
        text = await self.read(phext.name, place)
        if not 0 <= offset < len(text):
            raise PhextsyncError(f"offset {offset} is outside of the {len(text)} characters")
        end = offset + PAGE_CHARACTERS
        page = text[offset:end]
        if len(page) == len(text):
            return [page]
        note = f"[characters {offset} to {offset + len(page)} of {len(text)}"
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
        lines: list[str] = []
        async with aclosing(self.rows(phext, rest_of(range_, after))) as rows:
            async for coordinate, size, line in rows:
                if len(lines) == PAGE_ROWS:
                    last = lines[-1].split(" ", 1)[0]
                    return ["\n".join(lines), f"[there is more: go on with after={last}]"]
                lines.append(f"{coordinate}  {size}  {line}")
        if lines:
            return ["\n".join(lines)]
        names = ", ".join(await self._node.phexts()) or "none"
        return [f"no scrolls in {range_} of {phext.name}; phexts that exist: {names}"]

    async def _search(
        self, words: str, phext: str, range_: CoordinateRange, limit: int
    ) -> list[str]:
        hits = await self._node.search(words, phext, range_, limit=min(limit, PAGE_ROWS))
        lines = [f"{hit.coordinate}  {' '.join(hit.snippet.split())}" for hit in hits]
        return [
            "\n".join(lines)
            or f"no scroll in {range_} of {phext} has all of {words!r:.80}; try fewer words,"
            " beginnings such as wor*, or list"
        ]

    async def _peers(self) -> list[str]:
        status = await self._node.status()
        lines = [f"this is {status['name']}"]
        for phext in _rows(status["phexts"]):
            lines.append(f"phext {phext['name']}: {phext['scrolls']} scrolls")
        peers = _rows(status["peers"])
        for peer in peers:
            missing = "; ".join(map(str, _items(peer["lacks"])))
            state = f"does not have yet: {missing}" if missing else "has everything"
            lines.append(f"peer {peer['name']} at {peer['address']} {state}")
        if not peers:
            lines.append("no peer is connected: changes are kept, and sent when one is")
        for peer in _rows(status["absent"]):
            lines.append(f"not connected: {peer['name']} at {peer['address']}, {peer['reason']}")
        lines += [f"warning: {warning}" for warning in _items(status["warnings"])]
        return ["\n".join(lines[:PAGE_ROWS])]

    # -- writing ---------------------------------------------------------------------------

    async def _write(self, phext: AsyncPhext, place: Coordinate, text: str) -> list[str]:
        key = phext.name, str(place)
        base = self._seen.get(key)
        if base is None or not text:
            await phext.edit(place, text)
        else:
            await phext.edit_from(place, base, text)
        self._remember(key, text)
        if not text:
            return [f"{place} is deleted"]
        now = await phext.get(place, "") or ""
        merged = "" if now == text else "; others wrote in it since you read it, and both are kept"
        return [f"{place} has {len(now)} characters{merged}"]

    async def _append(self, phext: AsyncPhext, place: Coordinate, text: str) -> list[str]:
        before = await phext.get(place, "") or ""
        start = "\n" if before and not before.endswith("\n") else ""
        added = start + text + ("" if text.endswith("\n") else "\n")
        await phext.append(place, added)
        self._amend((phext.name, str(place)), lambda seen: seen + added)
        return [f"added to {place}, which has {len(before) + len(added)} characters"]

    async def _replace(
        self, phext: AsyncPhext, place: Coordinate, old: str, new: str, times: int | None
    ) -> list[str]:
        before = await self._text(phext, place)
        found = before.count(old) if old else 0
        if found == 0:
            raise PhextsyncError(
                f"{old!r:.60} does not stand in {place}. Read it and copy the text exactly"
            )
        if times is not None and found > times:
            raise PhextsyncError(
                f"{old!r:.60} stands {found} times in {place}. Give more of the text around the"
                " one you mean, or all=true"
            )
        await phext.replace(place, old, new, times)
        self._amend((phext.name, str(place)), lambda seen: seen.replace(old, new))
        return [f"replaced {found} times in {place}" if times is None else f"replaced in {place}"]

    def _remember(self, key: tuple[str, str], text: str) -> None:
        """Keep what the scroll's text is to whoever writes it next; forget the oldest."""
        self._seen_characters += len(text) - len(self._seen.pop(key, ""))
        self._seen[key] = text
        while self._seen_characters > _SEEN_CHARACTERS_MAX:
            self._seen_characters -= len(self._seen.pop(next(iter(self._seen))))

    def _amend(self, key: tuple[str, str], change: Callable[[str], str]) -> None:
        if key in self._seen:
            self._remember(key, change(self._seen[key]))

    # -- changes ---------------------------------------------------------------------------

    async def watch(self, phext: str) -> None:
        """Take note of the changes of a phext from now on."""
        if phext not in self._watched:
            self._watched[phext] = time.time()
            await self._node.phext(phext).subscribe(self._note)

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
        lines = [
            f"{row.coordinate or 'many scrolls'}  by {row.who}  {_ago(now, row.at_s)} ago"
            for row in shown
        ]
        older = len(noted) - len(shown)
        note = f"[next time: since={shown[-1].number}" + (
            f"; {older} older left out]" if older else "]"
        )
        return ["\n".join(lines), note]


def _place(coordinate: str) -> Coordinate:
    return Coordinate.parse(coordinate)


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


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _rows(value: object) -> list[dict[str, object]]:
    return [row for row in _items(value) if isinstance(row, dict)]
