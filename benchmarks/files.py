"""Bound directories: how long from a file on one node to the file on another, on loopback.

A line is added to a file of one directory; the time ends when the other directory's file has it.
Yardstick of the same run: Syncthing with its default settings, where it is installed.
"""

import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import trio

from benchmarks.nodes import LOOPBACK, in_other, make_folders, pin
from benchmarks.report import Report
from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import CoordinateRange
from phextsync.node import open_node

_RANGE: Final = CoordinateRange.parse("7.*")
_FILE: Final = "MEMORY.md"
_FIRST: Final = "# what both know\n"
_PAUSE_S: Final = 0.15
_POLL_S: Final = 0.0005
_PATIENCE_S: Final = 60.0
_SYNCTHING_EDITS: Final = 5
# What a folder has that is made in Syncthing's window.
_DEFAULTS: Final = (
    'type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="10"'
)


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes fewer edits and leaves Syncthing out."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        parent = Path(temporary)
        yardstick = None
        if not quick and shutil.which("syncthing") is not None:
            with _syncthing(parent) as (one, two):
                took = _measure(one, two, _SYNCTHING_EDITS)
            yardstick = "syncthing_p50_ms"
            report.add(yardstick, took, "ms")
        with _bound_nodes(parent) as (one, two):
            took = _measure(one, two, 40 if quick else 400)
        report.add("file_to_file_p50_ms", took, "ms", yardstick)
        report.add("file_to_file_p99_ms", [statistics.quantiles(took, n=100)[98]], "ms")
    return report


def _measure(one: Path, two: Path, edits: int) -> list[float]:
    """Return the milliseconds that each of some edits took from one directory to the other."""
    text = _FIRST
    _wait_for(two / _FILE, text)
    took = []
    for number in range(edits):
        time.sleep(_PAUSE_S)
        line = f"line {number} of what an agent has to remember\n"
        text += line
        began = time.perf_counter()
        with (one / _FILE).open("a") as file:
            file.write(line)
        _wait_for(two / _FILE, text)
        took.append((time.perf_counter() - began) * 1000)
    return took


def _wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == text:
                return
        time.sleep(_POLL_S)
    raise TimeoutError(f"{path} did not become what it should within {_PATIENCE_S:g} s")


@contextmanager
def _bound_nodes(parent: Path) -> Iterator[tuple[Path, Path]]:
    """Run two nodes in processes of their own, each with a bound directory."""
    ours, theirs = make_folders(parent, "ours", "theirs")
    directories = parent / "ours-notes", parent / "theirs-notes"
    for folder, directory in zip((ours, theirs), directories, strict=True):
        BindingStore(folder).bind(Bound(directory, "memory", _RANGE))
    (directories[0] / _FILE).write_text(_FIRST)
    with in_other(_serve, ours, 0, ()) as first:
        port = first.recv()
        with in_other(_serve, theirs, 1, (f"{LOOPBACK}:{port}",)) as second:
            second.recv()
            yield directories
            second.send("stop")
        first.send("stop")


def _serve(pipe: Connection, folder: Path, core: int, peers: tuple[str, ...]) -> None:
    pin(core)
    trio.run(_hold, pipe, folder, peers)


async def _hold(pipe: Connection, folder: Path, peers: tuple[str, ...]) -> None:
    async with (
        open_node(folder, host=LOOPBACK, port=0, discover=False, peers=peers) as node,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(service.serve, node)
        pipe.send(node.port)
        await trio.to_thread.run_sync(pipe.recv)
        nursery.cancel_scope.cancel()


# -- Syncthing -----------------------------------------------------------------------------


@contextmanager
def _syncthing(parent: Path) -> Iterator[tuple[Path, Path]]:
    """Run two Syncthings that share a directory, as they are when they are new but for their
    addresses: they find each other on loopback only."""
    homes = [parent / f"syncthing-{i}" for i in range(2)]
    directories = [parent / f"shared-{i}" for i in range(2)]
    ids = [_generate(home) for home in homes]
    processes = []
    try:
        for i, home in enumerate(homes):
            directories[i].mkdir()
            if i == 0:
                (directories[0] / _FILE).write_text(_FIRST)
            _configure(home, directories[i], ids, own=i)
            command = ["syncthing", "serve", "--no-browser", "--no-restart", f"--home={home}"]
            with (home / "log").open("w") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        yield directories[0], directories[1]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _generate(home: Path) -> str:
    command = ["syncthing", "generate", f"--home={home}", "--no-default-folder"]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        ["syncthing", f"--home={home}", "--device-id"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _configure(home: Path, directory: Path, ids: list[str], *, own: int) -> None:
    """Share one folder between both, over fixed ports, without asking anybody outside."""
    path = home / "config.xml"
    text = path.read_text()
    devices = "".join(f'<device id="{device}"></device>' for device in ids)
    folder = f'<folder id="notes" path="{directory}" {_DEFAULTS}>{devices}</folder>'
    address = f"tcp://{LOOPBACK}:{22100 + 1 - own}"
    peer = f'<device id="{ids[1 - own]}" name="peer"><address>{address}</address></device>'
    text = text.replace("</configuration>", f"{folder}{peer}</configuration>")
    own_address = f"tcp://{LOOPBACK}:{22100 + own}"
    for tag, value in (
        ("listenAddress", own_address),
        ("globalAnnounceEnabled", "false"),
        ("localAnnounceEnabled", "false"),
        ("relaysEnabled", "false"),
        ("natEnabled", "false"),
        ("crashReportingEnabled", "false"),
    ):
        text = re.sub(f"<{tag}>[^<]*</{tag}>", f"<{tag}>{value}</{tag}>", text)
    path.write_text(text.replace("127.0.0.1:8384", f"{LOOPBACK}:{22110 + own}"))
