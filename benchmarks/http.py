"""The HTTP gateway under `wrk`: selects and updates at 1, 8 and 64 connections.

The node has one core, `wrk` the other. Yardstick of the same run: a trio server that reads what
comes and sends bytes made beforehand, without looking at either. An update is answered when it is
on disk.
"""

import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import trio

from benchmarks.nodes import LOOPBACK, make_folders, other_node
from benchmarks.report import Report
from phextsync.discovery import Address
from phextsync.gateways.http import Gateway
from phextsync.index import Coordinate
from phextsync.node.node import Node

_SCROLLS: Final = 999
_TEXT: Final = "x" * 256
_FIXED: Final = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_TEXT)}\r\n\r\n{_TEXT}".encode()
_UNITS_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_SCRIPT: Final = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", string.format(PATH, n % 999 + 1, n))
end
"""
_PATHS: Final = {
    "fixed": '"/?n=%d&%d"',
    "select": '"/api/v2/select?p=bench&c=%d&n=%d"',
    "update": '"/api/v2/update?p=bench&c=%d&s=text+number+%d"',
}


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes shorter runs. RuntimeError when `wrk` is not installed."""
    if shutil.which("wrk") is None:
        raise RuntimeError("expected the load generator wrk, of the Debian package of that name")
    report = Report()
    seconds, runs = (1, 1) if quick else (5, 3)
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        (folder,) = make_folders(Path(temporary), "node")
        with other_node(folder, _serve, 0) as (port, pipe):
            http, fixed = pipe.recv()
            assert port
            for connections in (1, 8, 64):
                for name, path in _PATHS.items():
                    address = f"http://{LOOPBACK}:{fixed if name == 'fixed' else http}"
                    rows = [_load(address, path, connections, seconds) for _ in range(runs)]
                    _add(report, name, connections, rows)
    return report


def _add(
    report: Report, name: str, connections: int, rows: list[tuple[float, float, float]]
) -> None:
    yardstick = None if name == "fixed" else f"fixed_per_s@{connections}"
    report.add(f"{name}_per_s@{connections}", [row[0] for row in rows], "requests/s", yardstick)
    if name != "fixed":
        report.add(f"{name}_p50_ms@{connections}", [row[1] for row in rows], "ms")
        report.add(f"{name}_p99_ms@{connections}", [row[2] for row in rows], "ms")


def _load(address: str, path: str, connections: int, seconds: int) -> tuple[float, float, float]:
    """Return requests a second and milliseconds at the median and at p99."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.replace("PATH", path))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        done = subprocess.run(
            [*command, "-s", script.name, address], capture_output=True, text=True, check=True
        )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"expected every request to be answered with 200, found {done.stdout}")
    rate = _found(done.stdout, r"Requests/sec:\s+([\d.]+)()")
    return (
        rate,
        _found(done.stdout, r"50%\s+([\d.]+)(\w+)"),
        _found(done.stdout, r"99%\s+([\d.]+)(\w+)"),
    )


def _found(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1]) * _UNITS_MS.get(found[2], 1.0)


async def _serve(node: Node, pipe: Connection, count: int) -> None:
    """Serve HTTP over a node, and the yardstick beside it, until told to stop."""
    replica = node.phext("bench")
    with replica.batch():
        for number in range(1, _SCROLLS + 1):
            replica.edit(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number), _TEXT)
    pipe.send(node.port)
    async with trio.open_nursery() as nursery:
        http: int = await nursery.start(Gateway(node).serve, Address(LOOPBACK, 0))
        listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, _send_fixed, listeners)
        pipe.send((http, listeners[0].socket.getsockname()[1]))
        await trio.to_thread.run_sync(pipe.recv)
        nursery.cancel_scope.cancel()


async def _send_fixed(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some(65536):
            await stream.send_all(_FIXED)
