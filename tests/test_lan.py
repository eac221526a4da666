"""The switch between hosts does to frames what it is told, and nothing is left of dead runs."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sims.lan import Lan, missing, remove_leftovers
from sims.processes import PATIENCE_S

pytestmark = pytest.mark.hosts

# Sends back what it gets, and says how the connection ended.
_SERVER = """
import socket
with socket.create_server(("", 5000)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    try:
        while data := connection.recv(100):
            connection.sendall(data)
        print("closed")
    except ConnectionResetError:
        print("reset")
"""
# For each line that it gets, sends 50 bytes and says what came back and after how many seconds.
_CLIENT = """
import socket, sys, time
connection = socket.create_connection(("10.77.0.1", 5000))
for line in sys.stdin:
    began = time.monotonic()
    connection.sendall(b"x" * 50)
    back = b""
    while len(back) < 50 and (data := connection.recv(100)):
        back += data
    print(len(back), back == b"x" * 50, time.monotonic() - began, flush=True)
"""
_LEAVE = """
import subprocess, sys
from sims.lan import Lan
lan = Lan(1)
lan.__enter__()
process = subprocess.Popen([*lan.prefixes()[0], "sleep", "600"])
print(lan.names[0], process.pid, flush=True)
sys.stdin.read()
"""

_Process = subprocess.Popen[str]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield stack


def _start(stack: ExitStack, prefix: list[str], program: str) -> _Process:
    process = stack.enter_context(
        subprocess.Popen(
            [*prefix, sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(process.kill)
    return process


def _answer(process: _Process, *, to: str | None = None) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    if to is not None:
        process.stdin.write(to + "\n")
        process.stdin.flush()
    return process.stdout.readline().split()


def _connected(stack: ExitStack) -> tuple[Lan, _Process, _Process]:
    """Make two hosts, a server on the first, and a client of it on the second."""
    lan = stack.enter_context(Lan(2))
    first, second = lan.prefixes()
    server = _start(stack, first, _SERVER)
    assert _answer(server) == ["ready"]
    client = _start(stack, second, _CLIENT)
    assert _answer(client, to="talk")[:2] == ["50", "True"]
    return lan, server, client


def test_each_way_has_a_latency_of_its_own(stack: ExitStack) -> None:
    lan, _, client = _connected(stack)
    lan.way(0, 1).latency_s = 0.2
    lan.way(1, 0).latency_s = 0.3
    assert float(_answer(client, to="talk")[2]) >= 0.5


def test_what_a_blocked_or_lossy_way_drops_is_sent_again(stack: ExitStack) -> None:
    lan, _, client = _connected(stack)
    lan.way(1, 0).loss = 0.5
    lan.way(0, 1).is_blocked = True
    assert client.stdin is not None
    client.stdin.write("talk\n")
    client.stdin.flush()
    counted = lan.counters.frames
    while lan.counters.frames < counted + 4:
        time.sleep(0.01)
    lan.way(0, 1).is_blocked = False
    assert _answer(client)[:2] == ["50", "True"]


def test_a_garbled_segment_arrives_with_other_bytes(stack: ExitStack) -> None:
    lan, _, client = _connected(stack)
    lan.garble(0, 1)
    assert _answer(client, to="talk")[:2] == ["50", "False"]
    assert _answer(client, to="talk")[:2] == ["50", "True"]


def test_a_reset_segment_ends_the_connection(stack: ExitStack) -> None:
    lan, server, client = _connected(stack)
    lan.reset(1, 0)
    _answer(client, to="talk")
    assert _answer(server) == ["reset"]


def test_what_a_killed_run_left_is_removed(stack: ExitStack) -> None:
    run = _start(stack, [], _LEAVE)
    name, pid = _answer(run)
    process = os.pidfd_open(int(pid))
    stack.callback(os.close, process)
    run.kill()
    run.wait()
    listed = ["ip", "netns", "list"]
    assert name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    remove_leftovers()
    assert name not in subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    assert select.select([process], [], [], PATIENCE_S)[0]  # it has ended
