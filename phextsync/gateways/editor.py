"""The editor's protocol: an editor whose files are live, over JSON-RPC.

It is the protocol of Teamtype (once Ethersync) between its daemon and the plug-ins of editors:
requests `open`, `close`, `edit` and `cursor`, and notifications `edit` and `cursor` the other way.
Files are those of bound directories, by their whole paths.
"""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

import trio

from phextsync.boundaries import first
from phextsync.control import operations
from phextsync.errors import CoordinateError, PhextsyncError, ProtocolError
from phextsync.files import desk as files_desk
from phextsync.files.reading import check_file_text
from phextsync.gateways.asking import Asking
from phextsync.gateways.content_length import Messages, framed
from phextsync.gateways.editor_cursors import EditorCursors
from phextsync.gateways.editor_file import Answer, EditorFile
from phextsync.gateways.editor_positions import Json
from phextsync.plain_values import read_json
from phextsync.terminal import visible

FILES_MAX: Final = 200
"""Files that one editor has open at a time."""

_NO_JSON: Final = -32700
_NO_REQUEST: Final = -32600
_NO_METHOD: Final = -32601
_BAD_PARAMETERS: Final = -32602
_REFUSED: Final = -32000
_DONE: Final = "success"
_METHODS: Final = {
    "initialize": "anything",
    "open": "uri and content",
    "close": "uri",
    "edit": "uri, revision and delta",
    "cursor": "uri and ranges",
}
_HERE: Final = ("", "localhost")

_log = logging.getLogger("phextsync.gateways")


class Editor:
    """One editor. `send` gives it bytes; others know it as `client` and see its `name`."""

    def __init__(
        self, asking: Asking, send: Callable[[bytes], Awaitable[None]], client: int, name: str
    ) -> None:
        self._asking = asking
        self._send_bytes = send
        self._sending = trio.Lock()
        self._open: dict[str, EditorFile] = {}
        self._scopes: dict[EditorFile, trio.CancelScope] = {}
        show = partial(self._notify, "cursor")
        self._cursors = EditorCursors(asking, client, name, self._open, show)

    async def serve(self, received: AsyncIterable[bytes | bytearray]) -> None:
        """Do what an editor asks until it says no more. ProtocolError, when all that it asked is
        done, where its messages cannot be told from each other."""
        messages = Messages()
        problem: ProtocolError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cursors.run)
            try:
                async for data in received:
                    for message in messages.feed(data):
                        await self._take(nursery, message)
            except ProtocolError as error:
                problem = error
            for file in self._open.values():
                await file.finish()
            nursery.cancel_scope.cancel()
        if problem is None and not messages.is_between:
            problem = ProtocolError("expected a whole message, found the end")
        if problem is not None:
            raise problem

    # -- requests ----------------------------------------------------------------------------

    async def _take(self, nursery: trio.Nursery, message: bytes) -> None:
        try:
            request = read_json(message)
        except ValueError:
            text = f"expected JSON, found {message!r:.80}"
            await self._answer(None, _NO_JSON, PhextsyncError(text))
            return
        number, method = None, None
        if isinstance(request, dict):
            number, method = request.get("id"), request.get("method")
        if not isinstance(method, str):
            if number is None or not {"result", "error"} & request.keys():
                text = f"expected a request, found {message!r:.80}"
                await self._answer(None, _NO_REQUEST, PhextsyncError(text))
            return
        if method not in _METHODS:
            text = f"expected one of {', '.join(_METHODS)}, found {method!r:.40}"
            await self._answer(number, _NO_METHOD, PhextsyncError(text))
            return
        answer = partial(self._answer, number, _REFUSED)
        try:
            await self._do(nursery, method, request.get("params"), answer)
        except ProtocolError as error:
            await self._answer(number, _BAD_PARAMETERS, error)
        except PhextsyncError as error:
            await answer(error)

    async def _do(
        self, nursery: trio.Nursery, method: str, parameters: Json, answer: Answer
    ) -> None:
        match method, parameters:
            case "initialize", _:
                await answer(None)
            case "open", {"uri": str(uri), "content": str(content)}:
                file = await self._opened(uri, content)
                await answer(None)  # before anything that the editor may be told of the file
                self._open[uri] = file
                self._scopes[file] = trio.CancelScope()
                nursery.start_soon(self._keep, uri, file)
            case "edit", {"uri": str(uri), "revision": int(revision), "delta": delta}:
                await self._of(uri).hear(revision, delta, answer)
            case "cursor", {"uri": str(uri), "ranges": list(ranges)}:
                file = self._of(uri)
                for range_ in ranges[:1]:
                    file.edited.place_cursor(range_)
                    self._cursors.moved(file)
                await answer(None)
            case "close", {"uri": str(uri)}:
                await self._close(self._of(uri), uri)
                await answer(None)
            case _:
                wanted = _METHODS[method]
                raise ProtocolError(f"expected {wanted} of {method}, found {parameters!r:.80}")

    def _of(self, uri: str) -> EditorFile:
        if uri not in self._open:
            raise ProtocolError(f"expected a file that is open, found {uri!r:.200}")
        return self._open[uri]

    async def _close(self, file: EditorFile, uri: str) -> None:
        """Close a file when all that was done to it is."""
        await file.finish()
        del self._open[uri]
        self._scopes.pop(file).cancel()

    async def _opened(self, uri: str, content: str) -> EditorFile:
        """Open a file, again if it is open. One without a scroll gets one with what the editor
        has."""
        if uri in self._open:
            await self._close(self._open[uri], uri)
        if len(self._open) >= FILES_MAX:
            raise PhextsyncError(f"expected at most {FILES_MAX} open files, found another")
        path = path_of(uri)
        try:
            found = await self._asking.ask(files_desk.FIND, path, path)
        except CoordinateError:  # there was none yet
            check_file_text(path, content)  # before there is a name without a text
            found = await self._asking.ask(files_desk.NAME_FILE, path, path)
        place = found.phext, str(found.coordinate)
        scroll = await self._asking.ask(operations.GET, *place) or ""
        if content and not scroll and not found.is_there:
            scroll = await self._asking.ask(operations.SETDEFAULT, *place, content)
        return EditorFile(self._asking, found, content, scroll, partial(self._send_edit, uri))

    async def _keep(self, uri: str, file: EditorFile) -> None:
        """Keep a file and its scroll the same until it is closed; what ends that ends it alone."""
        with self._scopes[file]:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(file.follow)
                    nursery.start_soon(file.keep)
            except* PhextsyncError as group:
                error = first(group)
                assert isinstance(error, PhextsyncError)
                _log.warning("%s is no longer live: %s", visible(uri), visible(str(error)))
                file.fail(error)
                await file.answer_rest()

    # -- what the editor is told -------------------------------------------------------------

    async def _send_edit(self, uri: str, revision: int, delta: Json) -> None:
        await self._notify("edit", {"uri": uri, "revision": revision, "delta": delta})

    async def _notify(self, method: str, parameters: Json) -> None:
        await self._send({"jsonrpc": "2.0", "method": method, "params": parameters})

    async def _answer(self, number: Json, code: int, error: PhextsyncError | None = None) -> None:
        """Answer a request; what has no number asks for no answer, unless it cannot be read."""
        if error is None:
            if number is not None:
                await self._send({"jsonrpc": "2.0", "id": number, "result": _DONE})
            return
        if number is None:
            _log.warning("%s", visible(str(error)))
        if number is not None or code in (_NO_JSON, _NO_REQUEST):
            told: Json = {"code": code, "message": str(error)}
            await self._send({"jsonrpc": "2.0", "id": number, "error": told})

    async def _send(self, message: Json) -> None:
        async with self._sending:
            with suppress(trio.BrokenResourceError):  # the editor is gone: its end is heard soon
                await self._send_bytes(framed(message))


def path_of(uri: str) -> str:
    """Return the path that the address of a file names. ProtocolError when it names none."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    path = unquote(parts.path, errors="surrogateescape")
    is_here = parts.scheme == "file" and parts.netloc in _HERE
    if not is_here or not path.startswith("/") or "\0" in path:
        raise ProtocolError(
            f"expected the address of a file, such as file:///a/b, found {uri!r:.200}"
        )
    return path
