"""Editor cursors: where an editor's cursor is, told to others, and where those of others are.

An editor is told of the cursors in the files that it has open, and others of its cursor in the file
where it moved last: of several, the first. All of it is twice a second at most.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

from phextsync.control import operations
from phextsync.errors import ClosedError, PhextsyncError
from phextsync.gateways.asking import Asking
from phextsync.gateways.editor_file import EditorFile
from phextsync.gateways.editor_positions import Json, Places
from phextsync.gateways.told_cursors import Told, end_of, fact_of, position_of, told_by
from phextsync.plain_values import read_json
from phextsync.terminal import visible

NAME_MAX: Final = 40
"""Characters of a name."""

_PAUSE_S: Final = 0.5

Notify = Callable[[Json], Awaitable[None]]


class EditorCursors:
    """The cursors of one editor and of others. `client` is the number by which others know it, and
    `name` what they see; `notify` tells the editor of a cursor."""

    def __init__(
        self,
        asking: Asking,
        client: int,
        name: str,
        files: Mapping[str, EditorFile],
        notify: Notify,
    ) -> None:
        self._asking = asking
        self._client = client
        self._name = name[:NAME_MAX]
        self._files = files
        self._notify = notify
        self._mine: EditorFile | None = None
        self._has_moved = False
        self._clock = 0
        self._heard: dict[tuple[str, int], tuple[int, str]] = {}  # by address and client

    def moved(self, file: EditorFile) -> None:
        """The cursor was moved in a file."""
        self._mine, self._has_moved = file, True

    async def run(self) -> None:
        """Tell of cursors until cancelled, or until nobody can be asked."""
        while True:
            try:
                await self._tell()
                if self._files or self._heard:
                    await self._hear()
            except ClosedError:
                return
            except PhextsyncError:
                pass  # there may be no room, or no such place by now: the next time may do
            await trio.sleep(_PAUSE_S)

    # -- the editor's own --------------------------------------------------------------------

    async def _tell(self) -> None:
        if self._mine is not None and self._mine not in self._files.values():
            self._mine, self._has_moved = None, False
            await self._asking.tell(())
        file = self._mine
        if file is None or not self._has_moved or not file.is_at_rest:
            return
        self._has_moved = False
        cursor = file.edited.cursor
        if cursor is None:
            return
        place = file.found.phext, file.found.coordinate
        where = place[0], str(place[1])
        try:
            ends = [
                await self._asking.ask(operations.POSITION, *where, end, True) for end in cursor
            ]
        except IndexError:  # the scroll is shorter by now
            self._has_moved = True
            return
        anchor, head = map(end_of, ends)
        self._clock += 1
        state = {"user": {"name": self._name}, "cursor": {"anchor": anchor, "head": head}}
        await self._asking.tell([fact_of(place, self._client, self._clock, state)])

    # -- those of others ---------------------------------------------------------------------

    async def _hear(self) -> None:
        """Tell the editor of what others tell anew, and of those who are gone."""
        told_here = await self._asking.ask(operations.TOLD_HERE)
        told: Told = told_by(dict(told_here))
        for peer in await self._asking.ask(operations.PRESENCE):
            told |= told_by(peer.facts)
        heard: dict[tuple[str, int], tuple[int, str]] = {}
        for uri, file in [*self._files.items()]:
            place = file.found.phext, file.found.coordinate
            for (where, client), said in told.items():
                if where == place and client != self._client:
                    heard[uri, client] = said
        before, self._heard = self._heard, heard
        for (uri, client), (_, state) in before.items():
            if (uri, client) not in heard:
                await self._show(uri, client, read_json(state), [])
        for (uri, client), said in heard.items():
            if before.get((uri, client)) != said:
                state = read_json(said[1])
                await self._show(uri, client, state, await self._ranges(uri, state))

    async def _ranges(self, uri: str, state: Mapping[str, object]) -> list[Json]:
        """Return the range that somebody has chosen in a file, nothing when it is nowhere there."""
        cursor, file = state.get("cursor"), self._files.get(uri)
        if not isinstance(cursor, dict) or file is None:
            return []
        offsets: list[int] = []
        for end in (cursor.get("anchor"), cursor.get("head")):
            position = position_of(end)
            if position is None:
                return []
            place = file.found.phext, str(file.found.coordinate)
            with suppress(PhextsyncError):
                offset = await self._asking.ask(operations.OFFSET_OF, *place, position)
                offsets.append(min(offset, len(file.edited.text)))
        if len(offsets) < 2:
            return []  # it is in text that is not here yet
        return [Places(file.edited.text).range(*offsets)]

    async def _show(
        self, uri: str, client: int, state: Mapping[str, object], ranges: list[Json]
    ) -> None:
        user = state.get("user")
        name = user.get("name") if isinstance(user, dict) else None
        shown = visible(name[:NAME_MAX]) if isinstance(name, str) else ""
        told: dict[str, Json] = {"userid": f"{client:x}", "uri": uri, "ranges": ranges}
        await self._notify({**told, "name": shown} if shown else told)
