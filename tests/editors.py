"""Editors that speak the protocol of Teamtype's plug-ins, in memory."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio
from trio.testing import memory_stream_pair

from fuzz.desk import Node
from phextsync.control.desk import Desk
from phextsync.control.frames import Answer, Value
from phextsync.control.sessions import Session
from phextsync.control.status import DirectoryRow
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.gateways.asking import Asking
from phextsync.gateways.content_length import Messages, framed
from phextsync.gateways.edited_text import Told
from phextsync.gateways.editor import Editor
from phextsync.gateways.editor_positions import Json, Places, applied
from phextsync.handles.call import Call
from phextsync.ranges import Ranges
from phextsync.signals import Signal
from phextsync.store.memory import MemoryStore

PHEXT: Final = "memory"
CLIENT: Final = 0xC11E

Edit = tuple[int, list[Json]]
"""On how many edits of the other side an edit is made, and what it does."""


class EditorBuffer:
    """A buffer of an editor, with both revisions, as the documentation of the protocol has it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.edits = 0
        self.daemon_edits = 0

    def type(self, start: int, stop: int, words: str) -> Edit:
        """Replace characters; return what to tell the other side."""
        delta: list[Json] = [{"range": Places(self.text).range(start, stop), "replacement": words}]
        return self.change(delta)

    def change(self, delta: list[Json]) -> Edit:
        """Change several places at once; return what to tell the other side."""
        self.text = applied(self.text, delta)
        self.edits += 1
        return self.daemon_edits, delta

    def hear(self, revision: int, delta: Json) -> None:
        """Take an edit of the other side, or leave it: it is sent again."""
        if revision == self.edits:
            self.text = applied(self.text, delta)
            self.daemon_edits += 1

    def hear_all(self, told: Iterable[Told]) -> None:
        """Take edits one after the other."""
        for each in told:
            self.hear(each.revision, each.delta)


class Writer:
    """Somebody who changes texts at random, with characters from `first` on, each of which is there
    once in the world. Who `has_lines` puts line ends in and takes them out: of what others do, only
    the texts are known, which do not tell one line end from another."""

    def __init__(self, random: Random, first: int, *, has_lines: bool) -> None:
        self._random = random
        self._next = first
        self._has_lines = has_lines
        self.put_in: set[str] = set()
        self.deleted: set[str] = set()

    def edit(self, text: str) -> tuple[int, int, str]:
        """Return a place in a text and what to put there."""
        start = self._random.randint(0, len(text))
        stop = min(len(text), start + self._random.choice([0, 0, 0, 1, 3]))
        words = "".join(self._new() for _ in range(self._random.choice([0, 1, 1, 2, 5])))
        if self._has_lines and self._random.random() < 0.2:
            words += "\n"
        elif not self._has_lines:
            stop = start + len(text[start:stop].split("\n")[0])
        self.put_in.update(words.replace("\n", ""))
        self.deleted.update(text[start:stop].replace("\n", ""))
        return start, stop, words

    def _new(self) -> str:
        self._next += 1
        return chr(self._next)


class Files:
    """Bound files without a disk: those below `/notes`, each at the number of its letters."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def ask(self, request: list[Value]) -> Value:
        match request:
            case ["find" | "name_file" as name, str(), str(path)]:
                place = f"1.1.1/1.1.1/1.1.{len(path)}"
                is_there = place in self._node.replicas.open(PHEXT)
                if not path.startswith("/notes/") or (name == "find" and not is_there):
                    raise CoordinateError(f"/notes has no file {path}")
                return [PHEXT, place, "/notes", path.removeprefix("/notes/"), is_there]
        raise AssertionError(request)

    def status(self) -> tuple[DirectoryRow, ...]:
        return ()

    def taking_up(self) -> list[tuple[str, int, int]]:
        return []

    def check_unbound(self, phext: str, held: Ranges) -> None:
        return


class SlowNode:
    """A node that carries requests out in order, each when it comes to it. `pause_s` draws how long
    it takes to come and to be answered."""

    def __init__(self, nursery: trio.Nursery, pause_s: Callable[[], float] = lambda: 0.0) -> None:
        self.node = Node(MemoryStore())
        self.node.directories = Files(self.node)
        self.text = self.node.replicas.open(PHEXT)
        self._session = Session(Desk(self.node), b"editor")
        self._nursery = nursery
        self._pause_s = pause_s
        self._failing: tuple[list[PhextsyncError], str, bool] = [], "", False
        self._scopes: dict[int, trio.CancelScope] = {}

    def start(self, call: Call) -> None:
        call.number = len(self._scopes) + 1
        self._scopes[call.number] = trio.CancelScope()
        self._nursery.start_soon(self._carry_out, call)

    def cancel(self, call: Call) -> None:
        self._scopes[call.number].cancel()
        self._session.drop(call.number)

    def fails_with(
        self, error: PhextsyncError, *, times: int, name: str = "batch", after: bool = False
    ) -> None:
        """Let so many requests of a name fail, before they are carried out or `after` that."""
        self._failing = [error] * times, name, after

    def replace(self, place: str, start: int, stop: int, words: str) -> None:
        """Change a scroll as somebody else does."""
        with self.text.batch():
            self.text.delete(place, start, stop)
            self.text.insert(place, start, words)

    async def _carry_out(self, call: Call) -> None:
        with self._scopes[call.number]:
            await trio.sleep(self._pause_s())
            answer: Answer = None
            failing, name, is_after = self._failing
            fails = name in call.request and bool(failing)
            try:
                if fails and not is_after:
                    raise failing.pop()
                if call.lasts:
                    self._session.begin(call.number, call.request)
                elif call.takes_time:
                    answer = await self._session.wait(call.request)
                else:
                    answer = self._session.desk.ask(call.request, b"editor")
                if fails:
                    raise failing.pop()
            except PhextsyncError as error:
                answer = error
            await trio.sleep(self._pause_s())
            call.complete(answer)


class EditorClient:
    """The plug-in of an editor: it sends requests over a stream, and keeps its buffers."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.buffers: dict[str, EditorBuffer] = {}
        self.answers: dict[int, Json] = {}
        self.notified: list[tuple[str, Json]] = []
        self.hears = True  # what it is told of its buffers
        self._stream = stream
        self._number = 0
        self._came = Signal()

    async def run(self) -> None:
        """Take what comes until the other side ends."""
        messages = Messages()
        async for data in self._stream:
            for message in messages.feed(data):
                self._take(json.loads(message))
                self._came.notify()

    def _take(self, message: dict[str, Json]) -> None:
        if "id" in message:
            number = message["id"]
            assert isinstance(number, int)
            self.answers[number] = message.get("error", message.get("result"))
            return
        match message:
            case {"method": "edit", "params": {"uri": uri, "revision": revision, "delta": delta}}:
                assert isinstance(uri, str)
                assert isinstance(revision, int)
                if self.hears:
                    self.buffers[uri].hear(revision, delta)
            case {"method": str(method), "params": parameters}:
                self.notified.append((method, parameters))

    async def send(self, method: str, parameters: Json) -> int:
        """Send a request; return its number."""
        self._number += 1
        number = self._number
        await self._stream.send_all(
            framed({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})
        )
        return number

    async def ask(self, method: str, parameters: Json) -> Json:
        """Send a request and return its answer, or its error."""
        number = await self.send(method, parameters)
        while number not in self.answers:
            await self._came.wait()
        return self.answers[number]

    async def open(self, uri: str, content: str) -> EditorBuffer:
        """Open a file in a new buffer."""
        self.buffers[uri] = EditorBuffer(content)
        assert await self.ask("open", {"uri": uri, "content": content}) == "success"
        return self.buffers[uri]

    async def edit(self, uri: str, edit: Edit) -> int:
        """Send what was typed into a buffer; return the number of the request."""
        revision, delta = edit
        return await self.send("edit", {"uri": uri, "revision": revision, "delta": delta})


@asynccontextmanager
async def talk(
    pause_s: Callable[[], float] = lambda: 0.0,
) -> AsyncGenerator[tuple[SlowNode, trio.abc.Stream]]:
    """Let whoever has the stream talk with a node as an editor for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        node = SlowNode(nursery, pause_s)
        ours, theirs = _streams()

        async def serve() -> None:
            try:
                await Editor(Asking(node, "editor"), ours.send_all, CLIENT, "kiki").serve(ours)
            finally:
                await trio.aclose_forcefully(ours)

        nursery.start_soon(serve)
        yield node, theirs
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def editor_at_node(
    pause_s: Callable[[], float] = lambda: 0.0,
) -> AsyncGenerator[tuple[SlowNode, EditorClient]]:
    """Let a plug-in talk with a node for as long as the block lasts."""
    async with talk(pause_s) as (node, stream), trio.open_nursery() as nursery:
        client = EditorClient(stream)
        nursery.start_soon(client.run)
        yield node, client
        nursery.cancel_scope.cancel()


def _streams() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return memory_stream_pair()
