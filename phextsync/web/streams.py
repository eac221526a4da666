"""Streams of events: what changes in a phext from now on, for as long as a client listens."""

from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from phextsync.change_streams import ChangeStream
from phextsync.errors import PhextsyncError
from phextsync.gateways.events import HEARTBEAT, HEARTBEAT_S, events_of
from phextsync.index import CoordinateRange
from phextsync.node.node import DEFAULT_PHEXT, Node
from phextsync.phext_names import is_reserved

_CHANGES_MAX: Final = 4096
_MEDIA_TYPE: Final = "text/event-stream"
_HEADERS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"),)


class Streams:
    """The streams of changes of one node."""

    def __init__(self, node: Node, streams_max: int) -> None:
        self.streams = 0
        self._node = node
        self._streams_max = streams_max

    async def answer(self, request: Request) -> ASGIApp:
        """Answer with the changes in a range from now on; a slow client costs a set."""
        if self.streams >= self._streams_max:
            return PlainTextResponse(f"{self.streams} streams are open", 503)
        phext = request.query_params.get("phext", DEFAULT_PHEXT)
        try:
            range_ = CoordinateRange.parse(request.query_params.get("range", "*"))
            if is_reserved(phext):
                raise PhextsyncError(f"{phext}: it is the library's own")
            feed = self._node.foreign.feed(phext, range_, coordinates_max=_CHANGES_MAX)
        except PhextsyncError as error:
            return PlainTextResponse(str(error), 400)
        if request.method == "HEAD":  # nothing would ever end it
            feed.close()
            return Response(media_type=_MEDIA_TYPE)
        changes = ChangeStream(feed)

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await self._stream(changes, receive, send)

        return stream

    async def _stream(self, changes: ChangeStream, receive: Receive, send: Send) -> None:
        self.streams += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                piece = HEARTBEAT  # a client sees at once that it is heard
                while True:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = HEARTBEAT
                    with trio.move_on_after(HEARTBEAT_S):
                        piece = events_of(await changes.receive())
        finally:
            self.streams -= 1
            changes.close()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
