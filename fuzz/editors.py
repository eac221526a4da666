"""The target whose bytes are what clients of the web sockets send: frames, and messages in them.

The first byte says whether there is a token. Connections stand behind each other, each behind two
bytes of its length. Of each, the first byte says how its client behaves, the second how many bytes
it sends at a time (0: all), the third which path it opens and whether the rest is messages, each
behind two bytes of its length, or bytes as they are. A whole node serves them in virtual time, must
be idle when they have gone, and answer.
"""

from collections.abc import Iterator
from typing import Final

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto.frame_protocol import FrameProtocol, Opcode

from fuzz.web import Errors
from phextsync.crdt import Scroll, import_update
from phextsync.gateways.guard import Guard
from phextsync.gateways.http1 import ByteBudget
from phextsync.index import Coordinate
from phextsync.testing import MemoryMesh
from phextsync.varints import varints
from phextsync.waiting import Waiting
from phextsync.web.api import ENDPOINTS, PREFIX
from phextsync.web.app import WebApp
from phextsync.web.lib0 import Reader, sized, sized_text
from phextsync.web.limits import WebLimits
from phextsync.web.requests import Requests

_CONNECTIONS_MAX: Final = 6
_MESSAGES_MAX: Final = 64
_LIMITS: Final = WebLimits(
    head_bytes_max=2000,
    body_bytes_max=2000,
    message_bytes_max=3000,
    under_way_bytes_max=4000,
    small_bytes=500,
    answers_bytes_max=1000,
    head_s=1,
    body_s=1,
    send_s=1,
    ping_s=0.5,
    silent_s=2,
    token_s=1,
    scrolls_max=4,
)
_AT: Final = "1.1.1/1.1.1/1.1.1"
_COORDINATE: Final = Coordinate.parse(_AT)
_TEXT: Final = "text 1.\n" * 40
_PHEXT: Final = "n"
_PATHS: Final = (f"/sync/{_PHEXT}/{_AT}", "/hocuspocus", "/sync/n/2.1.1/1.1.1/1.1.1", "")
_SPLITS: Final = 8  # in the third byte: messages are sent as many frames
_RAW: Final = 4
_TOKEN: Final = "token"
_ENDS, _LEAVES, _STAYS, _NEVER_READS = range(4)
_PAUSES: Final = 4
_PAUSE_S: Final = 0.3
_STAYS_S: Final = 5.0
_MASK: Final = b"\1\2\3\4"


def run_editors(data: bytes) -> None:
    """Let clients do what the bytes say; AssertionError when the node is not as before."""
    mesh = MemoryMesh(1, 1)
    with Errors("phextsync.web") as errors:
        mesh.run(lambda: _serve(mesh, data))
    assert not errors.lines, errors.lines


class _Door:
    """The web server of a node, without its sockets."""

    def __init__(self, mesh: MemoryMesh, token: str | None) -> None:
        guard = Guard(token, own_names=lambda: ())
        self.app = WebApp(mesh.node(0), guard, now_s=lambda: 0, limits=_LIMITS)
        self._waiting = Waiting()
        self.under_way = ByteBudget(_LIMITS.under_way_bytes_max, _LIMITS.small_bytes, "messages")
        self.answers = ByteBudget(_LIMITS.answers_bytes_max, _LIMITS.small_bytes, "answers")

    async def answer_all(self, stream: trio.abc.Stream) -> None:
        requests = Requests(
            stream,
            self.app.asgi,
            _LIMITS,
            self.under_way,
            self.answers,
            waiting=self._waiting,
            is_secure=False,
            client=None,
        )
        try:
            await requests.answer_all()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # as the server does
        await trio.aclose_forcefully(stream)


async def _serve(mesh: MemoryMesh, data: bytes) -> None:
    await mesh.run_until(mesh.now + 0.01)
    node = mesh.node(0)
    node.phext(_PHEXT)[_COORDINATE] = _TEXT
    door = _Door(mesh, _TOKEN if data[:1] == b"t" else None)
    async with trio.open_nursery() as telling:
        telling.start_soon(door.app.elsewhere.run)
        async with trio.open_nursery() as nursery:
            for script in _parts(data[1:], _CONNECTIONS_MAX):
                nursery.start_soon(_connect, door, script)
        assert not door.app.opened, door.app.opened.scrolls()
        assert (door.under_way.size, door.answers.size) == (0, 0)
        update = await _ask(door)
        telling.cancel_scope.cancel()
    text = node.phext(_PHEXT).get(_COORDINATE) or ""
    assert Scroll(_COORDINATE, 1, [update]).text == text


def _parts(data: bytes, parts_max: int) -> Iterator[bytes]:
    """Return parts behind two bytes of their length."""
    for _ in range(parts_max):
        if len(data) < 2:
            return
        end = 2 + int.from_bytes(data[:2])
        yield data[2:end]
        data = data[end:]


async def _connect(door: _Door, script: bytes) -> None:
    """Be one client until both sides have ended."""
    if len(script) < 3:
        return
    how, kind, content = script[0], script[2], _bytes_of(script[2], script[3:])
    size = script[1] or len(content) or 1
    client, server = (lockstep_stream_pair if how % 4 == _NEVER_READS else memory_stream_pair)()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.answer_all, server)
        with trio.move_on_after(_STAYS_S):
            try:
                path = _PATHS[kind % 4]
                await client.send_all(_handshake(path) if path else b"")
                for at in range(0, len(content), size):
                    await client.send_all(content[at : at + size])
                    if how & _PAUSES:
                        await trio.sleep(_PAUSE_S)
                await wait_all_tasks_blocked()
                if how % 4 in (_ENDS, _STAYS):
                    if how % 4 == _ENDS:
                        await client.send_eof()
                    async for _ in client:
                        pass
                elif how % 4 == _NEVER_READS:
                    await trio.sleep(_STAYS_S)
            except trio.BrokenResourceError:
                pass  # the server has ended the connection
        await trio.aclose_forcefully(client)


def _handshake(path: str) -> bytes:
    lines = [f"GET {path}?token={_TOKEN} HTTP/1.1", "Host: localhost", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    return "\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode()


def _bytes_of(kind: int, content: bytes) -> bytes:
    """Return what a client sends behind the handshake."""
    if kind & _RAW:
        return content
    size = 3 if kind & _SPLITS else 1 << 16
    return b"".join(_frames(message, size) for message in _parts(content, _MESSAGES_MAX))


def _frames(message: bytes, size: int) -> bytes:
    """Return a message as frames of so many bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)] or [b""]
    sent = FrameProtocol(client=True, extensions=[])
    last = len(pieces) - 1
    return b"".join(sent.send_data(piece, i == last) for i, piece in enumerate(pieces))


async def _ask(door: _Door) -> bytes:
    """Be a client that means well; return the update with which it is answered."""
    client, server = memory_stream_pair()
    question = _frames(varints(0, 0) + sized(b"\0"), 100)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.answer_all, server)
        await client.send_all(_handshake(_PATHS[0]) + question)
        await wait_all_tasks_blocked()
        received += await client.receive_some(1 << 20)
        await client.send_eof()
        async for piece in client:
            received += piece
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    frames = FrameProtocol(client=True, extensions=[])
    frames.receive_bytes(rest)
    for frame in frames.received_frames():
        if frame.opcode is Opcode.BINARY and isinstance(frame.payload, bytes | bytearray):
            reader = Reader(bytes(frame.payload))
            if (reader.integer(), reader.integer()) == (0, 1):
                return reader.bytes()
    raise AssertionError(f"expected an answer, found {rest!r}")


# -- seeds ---------------------------------------------------------------------------------


def editor_seeds() -> list[bytes]:
    """Return conversations of both protocols, whole, cut, in pieces, and frames that are none."""
    mine = Scroll(_COORDINATE, 1 << 40)
    update = mine.insert(0, "\U0001f600 a word\n")
    assert update is not None
    spoken = [
        varints(0, 0) + sized(b"\0"),
        varints(0, 2) + sized(update),
        varints(0, 1) + sized(import_update(_COORDINATE.key, "imported\n")),
        varints(1) + sized(varints(1, 7, 1) + sized_text('{"user": {"name": "x"}}')),
        varints(1) + sized(varints(1, 7, 2) + sized_text("null")),
        varints(3),
        varints(2, 0) + sized_text("no"),
    ]
    name = sized_text(f"{_PHEXT}/{_AT}")
    other = sized_text(f"{_PHEXT}/3.1.1/1.1.1/1.1.1\0one")
    tokens = [each + varints(2, 0) + sized_text(_TOKEN) for each in (name, other)]
    hocus = [*tokens, *(name + message for message in spoken), other + spoken[1]]
    hocus += [b"\x09", name + varints(7), tokens[0], name + spoken[0]]
    both = [(0, _joined(spoken)), (1, _joined(hocus))]
    seeds = [
        _script(how, size, kind, rest) for kind, rest in both for how in range(8) for size in (0, 5)
    ]
    seeds += [_script(_STAYS, 0, kind + _SPLITS, rest) for kind, rest in both]
    seeds += [
        _script(_LEAVES, 0, kind, rest[:cut]) for kind, rest in both for cut in range(0, 60, 7)
    ]
    seeds += [_script(_ENDS, 0, kind + _RAW, raw) for raw in _raw_frames() for kind in range(2)]
    heads = [_handshake(path)[:-cut] + b"\r\n\r\n" for path in _PATHS[:2] for cut in (1, 30, 60)]
    seeds += [
        _script(how, 0, 3 + _RAW, asked) for asked in [*heads, *_requests()] for how in range(3)
    ]
    return [b"f" + seed for seed in seeds] + [
        b"t" + seeds[0] + seeds[16],
        b"f" + b"".join(seeds[:9:2]),
    ]


def _joined(messages: list[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(2) + message for message in messages)


def _script(how: int, size: int, kind: int, rest: bytes) -> bytes:
    script = bytes([how, size, kind]) + rest
    return len(script).to_bytes(2) + script


def _raw_frames() -> list[bytes]:
    """Return frames as they should not be, and those that control."""
    masked = [
        *(
            b"\x82\x81",
            b"\x02\x81",
            b"\x00\x80",
            b"\x80\x80",
            b"\x81\x82",
            b"\xf2\x81",
            b"\x83\x81",
        ),
        *(b"\x89\x80", b"\x8a\x81", b"\x09\x80", b"\x88\x80", b"\x88\x81", b"\x88\x82"),
        *(b"\x82\xfe\0\5", b"\x82\xff" + bytes(7) + b"\5", b"\x82\xff\x7f" + b"\xff" * 7),
        *(b"\x89\xfe\x01\0", b"\x82\x01"),
    ]
    frames = [head + _MASK + b"\xc3\xff\xfe\1\2" for head in masked]
    return [*frames, frames[1] + frames[2] * 20 + frames[7] + frames[3], frames[7] * 30]


def _requests() -> list[bytes]:
    """Return requests that open no web socket."""
    paths = [
        PREFIX + row.path.replace("{phext}", _PHEXT).replace("{coordinate:path}", _AT)
        for row in ENDPOINTS
        if row.method == "GET"
    ]
    query = b"?words=text&time_ms=1&last=2&limit=3&range=1.*"
    ends = b" HTTP/1.1\r\nHost: localhost\r\n"
    gets = [b"GET " + path.encode() + query + ends + b"\r\n" for path in paths]
    scroll = f"/api/v1/phexts/{_PHEXT}/scrolls/{_AT}".encode() + ends
    bodies = [
        b"Content-Length: 3\r\n\r\nabc",
        b"Content-Length: 9\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n\xff\xfe\0",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ]
    writes = [method + scroll + body for method in (b"PUT ", b"POST ") for body in bodies]
    login = b"POST /login" + ends + b"Content-Length: 11\r\n\r\ntoken=token"
    events = b"GET /events?phext=n" + ends + b"\r\n"
    return [
        *gets,
        *writes,
        b"DELETE " + scroll + b"\r\n",
        login,
        events,
        gets[0] * 9,
        b"HEAD" + events[3:],
    ]
