"""Where files that may be open run out, the doors that matter most stay open."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from phextsync.control.frames import encode_request
from phextsync.discovery import Address
from phextsync.gateways.http import Gateway
from phextsync.gateways.http1 import HttpLimits
from phextsync.node.node import open_node
from phextsync.sockets import FOR_CLIENTS, FOR_FILES, FOR_PEERS, are_left
from phextsync.transport import serve
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from phextsync.web.limits import WebLimits
from phextsync.web.server import WebServer
from sims.ports import free_port
from sims.processes import PATIENCE_S, POLL_S, Process, make_folder, mesh
from tests.descriptors import few_descriptors

_FEW = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
_HOST = "127.0.0.1"
_GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("parts", [FOR_FILES, FOR_PEERS, FOR_CLIENTS])
def test_each_door_leaves_so_many_descriptors_to_those_before_it(parts: int) -> None:
    held = [os.eventfd(0) for _ in range(300)]  # of which an eighth is more than 32
    try:
        with few_descriptors(32 * parts):
            assert are_left(parts)
        with few_descriptors(32 * parts - 1):
            assert not are_left(parts)
    finally:
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.real
def test_clients_over_http_leave_descriptors_to_commands_and_peers(tmp_path: Path) -> None:
    http = free_port()
    options = ("--no-mdns", "--host", _HOST, "--port", "0")
    with mesh(tmp_path, ["one", "two"], options=options) as (one, two), ExitStack() as opened:
        one.prefix, one.options = _FEW, (*options, "--http", f"{_HOST}:{http}")
        one.start()
        answers = [_ask(opened, http, b"events?p=n")[1] for _ in range(60)]
        assert {answer.split(b" ")[1] for answer in answers} == {b"200", b"503"}
        one.ask("set", "memory", "1.1.1/1.1.1/1.1.1", "a word")
        two.options = (*options, f"--peer={_HOST}:{one.status()['port']}")
        two.start()
        two.wait_until(lambda status: len(status["peers"]) == 1)


@pytest.mark.real
def test_of_clients_that_only_wait_the_oldest_gives_way_to_a_newcomer(tmp_path: Path) -> None:
    http = free_port()
    options = ("--no-mdns", "--host", _HOST, "--port", "0", "--http", f"{_HOST}:{http}")
    node = Process(make_folder(tmp_path / "one"), _FEW, options)
    try:
        node.start()
        with ExitStack() as opened:
            idle = [opened.enter_context(_connected(http)) for _ in range(60)]
            assert _ask(opened, http, b"health")[1].startswith(b"HTTP/1.1 200 ")
            assert idle[0].recv(1) == b""
    finally:
        node.stop()


def _connected(port: int) -> socket.socket:
    """Return a connection to a node that answers at its socket already, and here soon."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((_HOST, port), PATIENCE_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(POLL_S)


def _ask(opened: ExitStack, port: int, target: bytes) -> tuple[socket.socket, bytes]:
    """Return a connection that stays open, and the first bytes of what answers a request."""
    client = opened.enter_context(_connected(port))
    client.sendall(_GET % target)
    return client, client.recv(4096)


@pytest.mark.real
async def test_clients_that_only_wait_are_closed_where_hardly_a_file_may_be_opened(
    tmp_path: Path,
) -> None:
    folder = make_folder(tmp_path / "one")
    with trio.fail_after(PATIENCE_S):
        async with (
            open_node(folder, host=_HOST, port=0, discover=False) as node,
            trio.open_nursery() as nursery,
        ):
            gateway = Gateway(node, limits=HttpLimits(header_s=10 * PATIENCE_S))
            port = await nursery.start(gateway.serve, Address(_HOST, 0))
            async with await trio.open_tcp_stream(_HOST, port) as idle:
                while not gateway.connections:
                    await trio.lowlevel.checkpoint()
                with few_descriptors(1):
                    assert await idle.receive_some() == b""
            nursery.cancel_scope.cancel()


@pytest.mark.real
async def test_a_peer_leaves_descriptors_to_commands_and_the_oldest_handshake_makes_room() -> None:
    identity = NodeIdentity.create(MeshKey.generate(bytes(32)), "one", bytes(range(32)))
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            run = partial(serve, identity, _HOST, 0, _never, handshake_timeout_s=10 * PATIENCE_S)
            port = await nursery.start(run)
            stalled = await trio.open_tcp_stream(_HOST, port)
            async with stalled:
                await trio.testing.wait_all_tasks_blocked()
                with few_descriptors(3):
                    async with await trio.open_tcp_stream(_HOST, port) as newcomer:
                        assert await newcomer.receive_some() == b""
                    assert await stalled.receive_some() == b""
            nursery.cancel_scope.cancel()


async def _never(link: object) -> None:
    raise AssertionError("nobody proves who it is")


def _framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


_CROWD = """
import errno, socket, sys, time
from pathlib import Path
from phextsync.control.client import Attachment
folder = Path(sys.argv[1])
crowd = [socket.socket(socket.AF_UNIX) for _ in range(300)]
attached = Attachment(folder)
attached.ask("phexts")
for each in crowd:
    while each.connect_ex(str(folder / "node.sock")) == errno.EAGAIN:  # it is not at it yet
        time.sleep(0.01)
    each.sendall(bytes.fromhex(sys.argv[2]))
command = Attachment(folder)
print(command.ask("phexts"), attached.ask("phexts"))
"""


@pytest.mark.real
@pytest.mark.parametrize("said", [b"", _framed(encode_request(1, 0, ["phexts"]))])
async def test_processes_that_say_nothing_or_no_more_take_no_descriptor_of_a_command(
    tmp_path: Path, said: bytes
) -> None:
    folder = make_folder(tmp_path / "one")
    command = [sys.executable, "-c", _CROWD, str(folder), said.hex()]
    async with open_node(folder, host=_HOST, port=0, discover=False) as node:
        node.phext()["1.1.1/1.1.1/1.1.1"] = "text"
        with trio.fail_after(PATIENCE_S):
            process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            with few_descriptors(100):
                printed = b"".join([piece async for piece in process.stdout])
                assert await process.wait() == 0
    assert printed == b"['memory'] ['memory']\n"


@pytest.mark.real
async def test_the_web_server_leaves_descriptors_to_commands_and_peers() -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            limits = WebLimits(head_s=10 * PATIENCE_S)
            port = await nursery.start(WebServer(_no_app, limits).serve, Address(_HOST, 0))
            with few_descriptors(3):
                async with await trio.open_tcp_stream(_HOST, port) as client:
                    assert (await client.receive_some()).startswith(b"HTTP/1.1 503 ")
        nursery.cancel_scope.cancel()


async def _no_app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody comes in")
