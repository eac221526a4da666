"""What is written of a scroll goes to its clients at once, without a turn of the scheduler."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from pycrdt import Doc, Text
from trio.testing import MemoryReceiveStream, memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import BytesMessage

from phextsync.gateways.guard import Guard
from phextsync.replica.replica import Replica
from phextsync.testing import MemoryMesh
from phextsync.varints import varints
from phextsync.web.app import WebApp
from phextsync.web.lib0 import Reader, sized
from phextsync.web.open_scrolls import NEWS_BYTES_MAX
from tests.web_nodes import AT
from tests.web_sockets import PATH, Socket, opened_by

_ALL = 1 << 30


class _Prompt(trio.abc.Stream):
    """A stream that takes at once what it has room for, and all that is waited for."""

    def __init__(self, stream: trio.abc.Stream, put: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._put = put
        self._rest = b""
        self.room = _ALL
        self.sent: list[bytes] = []
        self.error: Exception | None = None

    @property
    def is_behind(self) -> bool:
        return bool(self._rest)

    def send_nowait(self, data: bytes) -> bool:
        if self.error is not None:
            raise self.error
        self.sent.append(data[: self.room])
        self._put(data[: self.room])
        self._rest = data[self.room :]
        return not self._rest

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest, self._rest = self._rest, b""
        await self._stream.send_all(rest + bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Client:
    """A client that has asked for a scroll and been answered."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.doc: Doc[Text] = Doc()
        self.text = self.doc.get("text", type=Text)

    async def begin(self) -> None:
        await self._socket.send(varints(0, 0) + sized(b"\0"))
        while await self.hear() != 1:
            pass

    async def hear(self) -> int:
        """Take the next message of synchronization; return its step."""
        data = b""
        while True:
            event = await self._socket.next()
            assert isinstance(event, BytesMessage)
            data += event.data
            if not event.message_finished:
                continue
            reader, data = Reader(data), b""
            if reader.integer() == 0:
                step, update = reader.integer(), reader.bytes()
                if step:
                    self.doc.apply_update(update)
                return step


_Body = Callable[[Replica, _Prompt, _Client], Awaitable[None]]


def _with_client(body: _Body, path: str = PATH) -> None:
    """Run `body` with the phext of a node, and the stream of a client that has heard all."""
    mesh = MemoryMesh(1, 1)

    async def main() -> None:
        await mesh.run_until(mesh.now + 0.01)
        node = mesh.node(0)
        app = WebApp(node, Guard(None, own_names=lambda: ()), now_s=lambda: 0)
        ours, theirs = memory_stream_pair()
        receives = theirs.receive_stream
        assert isinstance(receives, MemoryReceiveStream)
        prompt = _Prompt(ours, receives.put_data)
        async with trio.open_nursery() as nursery:
            client = _Client(await opened_by(app, nursery, path, (prompt, theirs)))
            await client.begin()
            await wait_all_tasks_blocked()
            prompt.sent.clear()
            await body(node.phext(), prompt, client)
            nursery.cancel_scope.cancel()

    mesh.run(main)


def test_what_is_written_is_on_its_way_to_a_client_when_the_edit_returns() -> None:
    async def body(replica: Replica, prompt: _Prompt, client: _Client) -> None:
        for line in range(3):
            replica.append(AT, f"{line}\n")
            assert len(prompt.sent) == line + 1
        while str(client.text) != "0\n1\n2\n":
            await client.hear()
        await wait_all_tasks_blocked()
        assert len(prompt.sent) == 3

    _with_client(body)


@pytest.mark.parametrize("lines", [1, 3])
def test_what_does_not_go_at_once_goes_before_what_comes_behind_it(lines: int) -> None:
    async def body(replica: Replica, prompt: _Prompt, client: _Client) -> None:
        prompt.room = 5
        for line in range(lines):
            replica.append(AT, f"{line}\n")
        prompt.room = _ALL
        with trio.fail_after(1):
            while len(str(client.text)) < 2 * lines:
                await client.hear()
        assert str(client.text) == replica[AT]
        assert not prompt.is_behind

    _with_client(body)


def test_an_edit_is_made_though_a_client_cannot_be_told() -> None:
    async def body(replica: Replica, prompt: _Prompt, client: _Client) -> None:
        prompt.error = trio.BrokenResourceError("gone")
        replica.append(AT, "kept")
        assert replica[AT] == "kept"
        with pytest.raises(EOFError):
            await client.hear()

    _with_client(body)


def test_much_at_once_is_no_matter_for_the_moment_of_an_edit() -> None:
    async def body(replica: Replica, prompt: _Prompt, client: _Client) -> None:
        replica.append(AT, "x" * NEWS_BYTES_MAX)
        assert not prompt.sent
        while len(str(client.text)) < NEWS_BYTES_MAX:
            await client.hear()

    _with_client(body)
