"""The target whose bytes are what HTTP clients do: they send anything, slowly, and leave anywhere.

Connections stand behind each other, separated by two bytes 0xff. Of each, the first byte says how
its client behaves, the second how many bytes it sends at a time (0: all), and the rest is what it
sends. A whole node serves them in virtual time, must be idle when they have gone, and answer.
"""

import logging
from typing import Final

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from phextsync.gateways.guard import Guard
from phextsync.gateways.http import Gateway
from phextsync.gateways.http1 import HttpLimits
from phextsync.index import Coordinate
from phextsync.testing import MemoryMesh

_BETWEEN: Final = b"\xff\xff"
_CONNECTIONS_MAX: Final = 8
_LIMITS: Final = HttpLimits(
    connections_max=6,
    header_bytes_max=2000,
    body_bytes_max=2000,
    bodies_bytes_max=3000,
    answers_bytes_max=3000,
    small_bytes=500,
    header_s=1,
    body_s=1,
    send_s=1,
    streams_max=3,
)
_STAYS_S: Final = 5.0
_ENDS, _LEAVES, _STAYS, _NEVER_READS, _BREAKS = range(5)
_IS_SLOW: Final = 8
_PAUSE_S: Final = 0.3
_HEALTH: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_TOKEN: Final = "token"


def run_http(data: bytes) -> None:
    """Let clients do what the bytes say; AssertionError when the node is not as before."""
    mesh = MemoryMesh(1, 1)
    with Errors("phextsync.gateways") as errors:
        mesh.run(lambda: _serve(mesh, data))
    assert not errors.lines, errors.lines


class Errors(logging.Handler):
    """Keeps what a logger says of errors that are bugs, while its block runs."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        self._logger = logging.getLogger(name)

    def __enter__(self) -> "Errors":
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def _serve(mesh: MemoryMesh, data: bytes) -> None:
    await mesh.run_until(mesh.now + 0.01)
    node = mesh.node(0)
    node.phext("n").edit(Coordinate(*[1] * 9), "text\n" * 400)
    token = _TOKEN if data[:1] == b"t" else None
    gateway = Gateway(node, guard=Guard(token, own_names=lambda: ()), limits=_LIMITS)
    async with trio.open_nursery() as nursery:
        for script in data[1:].split(_BETWEEN)[:_CONNECTIONS_MAX]:
            nursery.start_soon(_connect, gateway, script)
    assert (gateway.connections, gateway.streams) == (0, 0)
    assert (gateway.bodies.size, gateway.answers.size) == (0, 0)
    answer = await _connect(gateway, bytes([_ENDS, 0]) + _HEALTH)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer


async def _connect(gateway: Gateway, script: bytes) -> bytes:
    """Be one client until both sides have ended; return what it received."""
    if len(script) < 2:
        return b""
    how, size, content = script[0] % _IS_SLOW, script[1] or len(script), script[2:]
    client, server = lockstep_stream_pair() if how == _NEVER_READS else memory_stream_pair()
    assert isinstance(client, trio.StapledStream)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.answer_all, server)
        with trio.move_on_after(_STAYS_S):
            try:
                for at in range(0, len(content), size):
                    await client.send_all(content[at : at + size])
                    if script[0] & _IS_SLOW:
                        await trio.sleep(_PAUSE_S)
                if how == _ENDS:
                    await client.send_eof()
                if how in (_ENDS, _STAYS):
                    async for piece in client:
                        received += piece
                elif how == _BREAKS:
                    await wait_all_tasks_blocked()
                    await client.receive_stream.aclose()  # what the server sends next breaks
                if how in (_NEVER_READS, _BREAKS):
                    await trio.sleep(_STAYS_S)
            except trio.BrokenResourceError:
                pass  # the server has ended the connection
        await trio.aclose_forcefully(client)
    assert not received or received.startswith(b"HTTP/1.1 "), bytes(received[:80])
    return bytes(received)


def http_seeds() -> list[bytes]:
    """Return requests of every kind, whole, cut and in pieces."""
    host = b" HTTP/1.1\r\nHost: localhost\r\n"
    targets = [b"version", b"select?p=n", b"toc?p=n", b"get?p=n", b"status?p=n", b"json-export?p=n"]
    targets += [b"update?p=n&s=x", b"insert?p=n&c=1.0.1&s=%ff", b"delete?p=n", b"checksum", b"load"]
    heads = [b"GET /api/v2/" + target + host + b"\r\n" for target in targets]
    heads += [b"HEAD /api/v2/select?p=n" + host + b"\r\n", b"OPTIONS *" + host + b"\r\n"]
    heads += [b"GET /" + target + host + b"\r\n" for target in (b"metrics", b"health", b"x y\xe9")]
    events = b"GET /events?p=n&range=1.*" + host + b"\r\n"
    for operation in (b"update?p=n", b"where?limit=1", b"where?algo=checksum", b"delta?p=n"):
        post = b"POST /api/v2/" + operation + host
        heads.append(post + b"Content-Length: 4\r\n\r\na\x17bc")
        heads.append(post + b"Content-Length: 4\r\n\r\nlonger")
        heads.append(post + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\nshort")
        heads.append(post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        heads.append(post + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc")
    lines = [b"Origin: http://[", b"Origin: null", b"Sec-Fetch-Site: cross-site", b"Host: evil"]
    lines += [b"Authorization: a\r\nAuthorization: b", b"Authorization: Bearer token", b"A" * 3000]
    heads += [b"GET /api/v2/version" + host + line + b"\r\n\r\n" for line in lines]
    heads += [b"GET /api/v2/version HTTP/1.0\r\n\r\n", b"nonsense\r\n\r\n", b"\r\n", heads[0] * 20]
    seeds = [bytes([0, _ENDS, 0]) + head for head in [*heads, events]]
    seeds += [bytes([0, how, 3]) + heads[6] for how in range(2 * _IS_SLOW)]
    seeds += [bytes([0, how, 0]) + events + heads[6] for how in range(_IS_SLOW)]
    post = heads[18]
    seeds += [bytes([0, _LEAVES, 0]) + post[:cut] for cut in range(0, len(post), 4)]
    writes = bytes([_ENDS | _IS_SLOW, 30]) + heads[6]
    both = [bytes([how, 0]) + events + _BETWEEN + writes for how in range(5)]
    seeds += [b"f" + pair for pair in both]
    seeds += [b"t" + _BETWEEN.join(both), b"f" + _BETWEEN.join(both * 2)]
    return seeds
