"""Bound directories: from a file on one node to the file on another, on loopback; many files.

A line is added to a file of one directory; the time ends when the other directory's file has it.
Many files of 1 KiB are bound, until their scrolls are on the disk, and written on the other side;
beside the files a second that a plain loop writes, each synced. A start takes up a directory that
has not changed. Yardstick of the same run: Syncthing with its default settings, where it is
installed.
"""

import contextlib
import os
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
from random import Random
from typing import Final

import trio

from benchmarks import edits
from benchmarks.nodes import LOOPBACK, in_other, make_folders, pin
from benchmarks.report import Report
from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import CoordinateRange
from phextsync.node.node import open_node
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore

_RANGE: Final = CoordinateRange.parse("7.*")
FILE: Final = "MEMORY.md"
_FIRST: Final = "# what both know\n"
_PAUSE_S: Final = 0.15
_POLL_S: Final = 0.0005
_PATIENCE_S: Final = 60.0
_PATIENCE_MANY_S: Final = 600.0
_POLL_MANY_S: Final = 0.1
_SAVE_PAUSE_S: Final = 0.004
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
            with syncthing(parent) as (one, two):
                took = saves_ms(one, two, _SYNCTHING_EDITS)
            yardstick = "syncthing_p50_ms"
            report.add(yardstick, took, "ms")
        with bound_nodes(parent) as (one, two):
            took = saves_ms(one, two, 40 if quick else 400)
        report.add("file_to_file_p50_ms", took, "ms", yardstick)
        report.add("file_to_file_p99_ms", [statistics.quantiles(took, n=100)[98]], "ms")
        _measure_many(report, parent / "many", 1_000 if quick else 10_000)
        _measure_start(report, parent / "start", 2_000 if quick else 50_000)
        _measure_saves(report, parent / "saves", 300 if quick else 10_000)
    edits.measure_unlike(report, 1 if quick else 5)
    return report


def _measure_many(report: Report, parent: Path, count: int) -> None:
    """Bind many files on one node while another, which is bound already, gets them."""
    parent.mkdir()
    plain = parent / "plain"
    began = time.perf_counter()
    fill(plain, min(count, 1_000), is_synced=True)
    yardstick = "plain_files_per_s"
    report.add(yardstick, [min(count, 1_000) / (time.perf_counter() - began)], "files/s")
    ours, theirs = make_folders(parent, "ours", "theirs")
    directories = parent / "ours-notes", parent / "theirs-notes"
    fill(directories[0], count)
    for folder, directory in zip((ours, theirs), directories, strict=True):
        BindingStore(folder).bind(Bound(directory, "memory", _RANGE))
    with in_other(_serve, theirs, 1, ()) as second:
        port = second.recv()
        began = time.perf_counter()
        with in_other(_serve, ours, 0, (f"{LOOPBACK}:{port}",)) as first:
            first.recv()
            bound_s = time.perf_counter() - began
            wait_for_files(directories[1], count)
            written_s = time.perf_counter() - began
            first.send("stop")
        second.send("stop")
    name = f"1e{len(str(count)) - 1}"
    report.add(f"bind_files_per_s@{name}", [count / bound_s], "files/s", yardstick)
    report.add(f"written_files_per_s@{name}", [count / written_s], "files/s", yardstick)


def _measure_start(report: Report, parent: Path, count: int) -> None:
    """Start a node whose bound directory has many files that did not change."""
    parent.mkdir()
    (ours,) = make_folders(parent, "ours")
    fill(parent / "notes", count)
    BindingStore(ours).bind(Bound(parent / "notes", "memory", _RANGE))
    with in_other(_serve, ours, 0, ()) as first:
        first.recv()
        first.send("stop")
    began = time.perf_counter()
    with in_other(_serve, ours, 0, ()) as first:
        first.recv()
        took = time.perf_counter() - began
        first.send("stop")
    report.add(f"start_s@{count // 10_000}e4" if count >= 10_000 else "start_s", [took], "s")


def _measure_saves(report: Report, parent: Path, count: int) -> None:
    """Save one file again and again by renaming, as editors do, on two connected nodes."""
    parent.mkdir()
    with bound_nodes(parent) as (one, two):
        wait_for(two / FILE, _FIRST)
        lines = [f"line {number} of what an agent knows\n" for number in range(40)]
        began = time.perf_counter()
        for number in range(count):
            lines[number % len(lines)] = f"line {number % len(lines)} was saved {number} times\n"
            (one / ".draft").write_text("".join(lines))
            (one / ".draft").replace(one / FILE)
            time.sleep(_SAVE_PAUSE_S)
        took = time.perf_counter() - began
        wait_for(two / FILE, "".join(lines))
    with _opened(parent / "ours") as store:
        replicas = ReplicaSet(store, node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0)
        coordinate = next(c for c, text in replicas.open("memory").scrolls() if "saved" in text)
        size = len(replicas.open("memory").version(coordinate))
    name = f"1e{len(str(count)) - 1}"
    report.add(f"rename_save_version_bytes@{name}", [size], "bytes")
    report.add(f"rename_saves_per_s@{name}", [count / took], "saves/s")


@contextmanager
def _opened(folder: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(folder)
    try:
        yield store
    finally:
        store.close(clean=True)


def fill(directory: Path, count: int, *, is_synced: bool = False) -> None:
    for number in range(count):
        path = directory / f"{number // 100:03}" / f"note {number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write((f"note {number} of an agent\n" * 60)[:1024])
            if is_synced:
                file.flush()
                os.fsync(file.fileno())


def wait_for_files(directory: Path, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_MANY_S
    while time.monotonic() < deadline:
        found = sum(1 for path in directory.rglob("*.md") if not path.name.startswith("."))
        if found >= count:
            return
        time.sleep(_POLL_MANY_S)
    raise TimeoutError(f"{directory} did not get {count} files within {_PATIENCE_MANY_S:g} s")


def saves_ms(one: Path, two: Path, edits: int) -> list[float]:
    """Return the milliseconds that each of some edits took from one directory to the other."""
    text = _FIRST
    wait_for(two / FILE, text)
    took = []
    for number in range(edits):
        time.sleep(_PAUSE_S)
        line = f"line {number} of what an agent has to remember\n"
        text += line
        began = time.perf_counter()
        with (one / FILE).open("a") as file:
            file.write(line)
        wait_for(two / FILE, text)
        took.append((time.perf_counter() - began) * 1000)
    return took


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == text:
                return
        time.sleep(_POLL_S)
    raise TimeoutError(f"{path} did not become what it should within {_PATIENCE_S:g} s")


@contextmanager
def bound_nodes(parent: Path) -> Iterator[tuple[Path, Path]]:
    """Run two nodes in processes of their own, each with a bound directory."""
    ours, theirs = make_folders(parent, "ours", "theirs")
    directories = parent / "ours-notes", parent / "theirs-notes"
    for folder, directory in zip((ours, theirs), directories, strict=True):
        BindingStore(folder).bind(Bound(directory, "memory", _RANGE))
    (directories[0] / FILE).write_text(_FIRST)
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
def syncthing(parent: Path) -> Iterator[tuple[Path, Path]]:
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
                (directories[0] / FILE).write_text(_FIRST)
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
