"""Agents: what a language model may ask of scrolls, and answers that it can use.

`Agent` carries out `tools`; no protocol. An answer is short texts of bounded
size; an error says what was wrong and what to do next.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Final

from phextsync.agents.part_names import names_of
from phextsync.agents.plans import carry_out_awaited
from phextsync.aio import AsyncHandle, AsyncPhext
from phextsync.control.performing import rest_of
from phextsync.errors import (
    CoordinateError,
    NotHeldError,
    PhextsyncError,
    StoreFullError,
)
from phextsync.files.finding import is_coordinate
from phextsync.files.reading import check_size
from phextsync.gateways.mail_tools import MAIL_TOOLS, use_mail
from phextsync.gateways.quarantine_tools import QUARANTINE_TOOLS, use_quarantine
from phextsync.gateways.readers import Seen, Views, reader_of
from phextsync.gateways.task_tools import TASK_TOOLS, use_tasks
from phextsync.gateways.tools import PAGE_CHARACTERS, PAGE_ROWS, TOOLS, Argument
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import Change
from phextsync.texts import check_text

_RECENT_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class _Noted:
    """A change of a scroll. No coordinate: so many changes that they were not counted."""

    number: int
    at_s: float
    who: str
    phext: str
    coordinate: Coordinate | None


@dataclass(frozen=True, slots=True)
class _Scroll:
    """A scroll that was asked for, and the path of the file that it is, if it is one."""

    phext: AsyncPhext
    place: Coordinate
    file: str

    def __str__(self) -> str:
        return self.file or str(self.place)


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
        self._views = Views()
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
                scroll = await self._scroll(phext, place, content=text or None)
                return await self._write(scroll, text, token.strip(), session)
            case ["append", str(place), str(text), str(phext)]:
                check_text(text)
                scroll = await self._scroll(phext, place, content=text)
                return await self._append(scroll, text, session)
            case ["replace", str(place), str(old), str(new), str(phext), bool(everywhere)]:
                scroll = await self._scroll(phext, place)
                return await self._replace(scroll, old, new, None if everywhere else 1, session)
            case ["list", str(range_), str(phext), str(after)]:
                return await self._list(self._phext(phext), range_, after)
            case ["search", str(words), str(range_), str(phext), int(limit)]:
                name = self._phext(phext).name
                return await self._search(words, name, CoordinateRange.parse(range_), limit)
            case [str(mail), *rest] if mail in MAIL_TOOLS:
                return await use_mail(self._node, mail, rest)
            case [str(tool), *rest] if tool in QUARANTINE_TOOLS:
                return await use_quarantine(self._node, tool, rest)
            case [str(task), *rest] if task in TASK_TOOLS:
                return await use_tasks(self._node, task, rest)
            case ["near", str(place), str(range_), str(phext), int(limit)]:
                return await self._near(await self._scroll(phext, place), range_, limit)
            case ["changes", int(since), str(phext)]:
                return await self._changes(self._phext(phext).name, since)
            case _:
                return await self._peers()

    def _phext(self, name: str) -> AsyncPhext:
        if is_reserved(name):
            raise PhextsyncError(f"expected the name of a phext, found {name!r:.60}: it is hidden")
        return self._node.phext(name)

    async def _scroll(self, phext: str, place: str, *, content: str | None = None) -> _Scroll:
        """Return the scroll that a coordinate or a file names; with `content`, which is to be
        written there, the file need not exist yet."""
        if is_coordinate(place):
            return _Scroll(self._phext(phext), Coordinate.parse(place), "")
        if content is not None:  # before there is a name without a text
            check_size(place, content)
        find = self._node.find_file if content is None else self._node.name_file
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
        self._views.keep(session, phext, place, Seen(text, len(text)))
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
            None if session is None else self._views.of(reader_of(session, ""), phext.name, place)
        )
        # Pages of two versions of a text are no text.
        known = before.known if before is not None and before.text == text else 0
        known = max(known, end) if offset <= known else known
        token = self._views.keep(session, phext.name, place, Seen(text, known))
        page = text[offset:end]
        if len(page) == len(text):
            return [page, f"[to write it: read={token}]"] if token else [page]
        note = f"[characters {offset} to {end} of {len(text)}"
        return [page, f"{note}; go on with offset={end}]" if end < len(text) else f"{note}]"]

    async def rows(
        self, phext: AsyncPhext, range_: CoordinateRange | None
    ) -> AsyncGenerator[tuple[Coordinate, int, str]]:
        """Iterate over the scrolls in a range: coordinate, bytes, first line. NotHeldError at the
        end says of which parts of it nobody could be asked, if there are any."""
        if range_ is not None:
            async with aclosing(phext.listed(range_)) as listed:
                async for row in listed:
                    yield row.coordinate, row.size, row.first_line

    async def _list(self, phext: AsyncPhext, range_: str, after: str) -> list[str]:
        listed: list[tuple[Coordinate, str, str]] = []
        notes: list[str] = []
        try:
            async with aclosing(self.rows(phext, rest_of(range_, after))) as rows:
                async for coordinate, size, line in rows:
                    if len(listed) == PAGE_ROWS:
                        notes.append(f"[there is more: go on with after={listed[-1][0]}]")
                        break
                    listed.append((coordinate, f"{size}  ", line))
        except NotHeldError as error:
            notes.append(f"[{error}]")
        if listed:
            return ["\n".join(await self._lines(phext.name, listed)), *notes]
        names = ", ".join(await self.phexts()) or "none"
        return [f"no scrolls in {range_} of {phext.name}; phexts that exist: {names}", *notes]

    async def _search(
        self, words: str, phext: str, range_: CoordinateRange, limit: int
    ) -> list[str]:
        missing: list[str] = []
        most = min(limit, PAGE_ROWS)
        hits = await self._node.search(words, phext, range_, limit=most, missing=missing)
        rows = [(hit.coordinate, "", " ".join(hit.snippet.split())) for hit in hits]
        lines = await self._lines(phext, rows)
        return [
            "\n".join(lines)
            or f"no scroll in {range_} of {phext} has all of {words!r:.80}; try fewer words,"
            " beginnings such as wor*, | between words, or list",
            *(f"[{line}]" for line in missing),
        ]

    async def _near(self, scroll: _Scroll, range_: str, limit: int) -> list[str]:
        if not 1 <= limit <= PAGE_ROWS:
            raise PhextsyncError(f"expected a limit from 1 to {PAGE_ROWS}, found {limit}")
        missing: list[str] = []
        found = await scroll.phext.near(scroll.place, limit, range_, missing=missing)
        rows = [(row.coordinate, f"{row.distance:>4}  ", row.first_line) for row in found]
        lines = await self._lines(scroll.phext.name, rows)
        nothing = f"there are no scrolls in {range_} of {scroll.phext.name}"
        return ["\n".join(lines) or nothing, *(f"[{line}]" for line in missing)]

    async def _lines(self, phext: str, rows: list[tuple[Coordinate, str, str]]) -> list[str]:
        """Return lines about scrolls, with the names of their parts and of those that are files."""
        files = await self._node.file_names([row[0] for row in rows], phext)
        names = await carry_out_awaited(self._node, names_of(phext))
        lines = []
        for place, before, line in rows:
            called = [names.path(place), str(files.get(place, "")), line]
            lines.append(f"{place}  {before}{': '.join(filter(None, called))}")
        return lines

    async def _peers(self) -> list[str]:
        status = await self._node.status()
        lines = [f"this is {status.name}"]
        for phext in status.phexts:
            if not is_reserved(phext.name):
                lines.append(f"phext {phext.name}: {phext.scrolls} scrolls")
        for peer in status.peers:
            missing = "; ".join(lack for lack in peer.lacks if not is_reserved(lack))
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
        seen = self._views.of(reader_of(session, token), phext.name, place)
        if before and (seen is None or not seen.is_whole):
            raise PhextsyncError(_unread(scroll, before, seen, session))
        base = seen.text if seen is not None and seen.is_whole else ""
        await phext.edit_from(place, base, text)
        token = self._views.keep(session, phext.name, place, Seen(text, len(text)))
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
        added = await phext.append_line(place, text)
        if session is not None:
            self._note_append(session, phext.name, place, added, is_new=not before)
        return [f"added to {scroll}, which has {len(before) + len(added)} characters"]

    def _note_append(
        self, session: str, phext: str, place: Coordinate, added: str, *, is_new: bool
    ) -> None:
        seen = self._views.of(reader_of(session, ""), phext, place)
        if seen is None and is_new:
            seen = Seen("", 0)
        if seen is not None:
            text = seen.text + added
            known = len(text) if seen.is_whole else seen.known
            self._views.keep(session, phext, place, Seen(text, known))

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
        seen = self._views.of(reader_of(session, ""), phext, place)
        if seen is not None and seen.is_whole:
            text = seen.text.replace(old, new)
            self._views.keep(session, phext, place, Seen(text, len(text)))
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


def _unread(place: _Scroll, text: str, seen: Seen | None, session: str | None) -> str:
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
        case StoreFullError():
            return "Nothing is lost; tell the user that the disk is full"
        case _:
            return ""


def _ago(now_s: float, then_s: float) -> str:
    seconds = max(0, int(now_s - then_s))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
