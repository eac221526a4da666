"""Others that do a part of the same, beside it in the same run: who is faster where.

A key from one client's socket to another's over one server, a document that a client gets when it
is new and when it was away for some edits: y-websocket's server and pycrdt-websocket, which keep
documents in memory only, with the same client. A line of a file from one directory to the other,
and many new files: Syncthing with its default settings, and rsync, which is run once for each and
watches nothing. `make peers` installs them; those that are not there are left out, and said so.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection
from typing import Final

import trio
from pycrdt import Doc, Text

from benchmarks import files, web
from benchmarks.nodes import LOOPBACK, in_other, make_folders, pin
from benchmarks.report import Report, absent
from phextsync.reporting import Section, Series
from sims.ports import free_port

OURS: Final = "phextsync"
_Y_SERVER: Final = (
    Path(__file__).parents[1] / ".peers/node_modules/@y/websocket-server/src/server.js"
)
_CHARACTERS: Final = 20_000
_AWAY: Final = 200  # edits
_PATIENCE_S: Final = 60.0

_KEY: Final = "key_ms"
_NEW: Final = "new_client_ms"
_AGAIN: Final = "client_again_ms"
_LINE: Final = "line_ms"
_MANY: Final = {200: "files_ms@200", 2_000: "files_ms@2000"}
_MEANINGS: Final = {
    _KEY: "a key, from one client to another",
    _NEW: f"a document of {_CHARACTERS // 1000} kB, to a new client",
    _AGAIN: f"{_AWAY} edits of it, to a client that was away",
    _LINE: "a line of a file, to another directory",
    **{name: f"{count:,} new files, to another directory" for count, name in _MANY.items()},
}

Times = dict[str, dict[str, list[float]]]
"""What was measured, as in `_MEANINGS`, and the milliseconds that it took with each."""


def run(*, quick: bool) -> Report:
    """Measure; `quick` presses fewer keys and takes fewer files."""
    report = Report()
    times, missing = _measured(quick)
    for what, took in times.items():
        for name, values in took.items():
            report.add(f"{what}_{name}", values, "ms", None if name == OURS else f"{what}_{OURS}")
    report.notes += [*table(times), *missing]
    return report


def section(*, quick: bool) -> Section:
    """Return the same as a part of a report."""
    times, missing = _measured(quick)
    fastest = _fastest(times)
    series = (
        Series(
            f"{_MEANINGS[what]}: {name}", "ms", tuple(values), "fastest" * (name == fastest[what])
        )
        for what, took in times.items()
        for name, values in took.items()
    )
    method = (
        "One machine, loopback. y-websocket and pycrdt-websocket serve the same client and keep "
        "documents in memory only; Syncthing has its default settings; rsync is run once for each, "
        "and watches nothing."
    )
    return Section("Beside others", " ".join([method, *missing]), tuple(series))


def table(times: Times) -> list[str]:
    """Return the lines of a table that says who was faster where."""
    names = list(dict.fromkeys(name for took in times.values() for name in took))
    lines = [f"| ms | {' | '.join(names)} | fastest |", f"| --- |{' --- |' * (len(names) + 1)}"]
    for what, name in _fastest(times).items():
        took = {each: _told(statistics.median(values)) for each, values in times[what].items()}
        cells = [_MEANINGS[what], *(took.get(each, "") for each in names), name]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _told(value_ms: float) -> str:
    return f"{value_ms:,.0f}" if value_ms >= 100 else f"{value_ms:.3g}"


def _fastest(times: Times) -> dict[str, str]:
    return {
        what: min(took, key=lambda name: statistics.median(took[name]))
        for what, took in times.items()
    }


def _measured(quick: bool) -> tuple[Times, list[str]]:
    """Return what was measured, and a line for each that is not on this machine."""
    times: Times = {}
    missing = []
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        for name, (is_there, measure) in _PEERS.items():
            if not is_there():
                missing.append(absent(name))
                continue
            folder = Path(temporary) / name
            folder.mkdir()
            for what, took_ms in measure(folder, quick).items():
                times.setdefault(what, {})[name] = took_ms
    return times, missing


# -- documents -----------------------------------------------------------------------------

_Row = dict[str, list[float]]
_Served = AbstractContextManager[tuple[int, Callable[[int], str]]]
"""A server: its port, and the path of a document by its number."""


def _of_documents(serve: Callable[[Path], _Served], folder: Path, quick: bool) -> _Row:
    with serve(folder) as (port, path_of):
        return documents(port, path_of, 100 if quick else 1_000, 5 if quick else 20)


def documents(port: int, path_of: Callable[[int], str], keys: int, repeats: int) -> _Row:
    """Measure a server with so many keys, and clients that come so often."""
    return trio.run(_documents, port, path_of, keys, repeats)


async def _documents(port: int, path_of: Callable[[int], str], keys: int, repeats: int) -> _Row:
    key_ms = await web.press((port, port), [path_of(1)] * 2, keys)
    doc: Doc[Text] = Doc()
    text = doc.get("text", type=Text)
    async with web.connected(port) as writer:
        await writer.open(path_of(2))
        text += "many words of a note " * (_CHARACTERS // 21)
        await _say(writer, doc, b"\0")
        before = doc.get_state()
        new_ms = [await _opened_ms(port, path_of(2), b"\0") for _ in range(repeats)]
        for number in range(_AWAY):
            seen = doc.get_state()
            text.insert(number * 7, "x")
            await _say(writer, doc, seen)
        again_ms = [await _opened_ms(port, path_of(2), before) for _ in range(repeats)]
    return {_KEY: key_ms, _NEW: new_ms, _AGAIN: again_ms}


async def _say(writer: web.Client, doc: Doc[Text], seen: bytes) -> None:
    """Send what is new, and wait until the server has it."""
    await writer.say(web.UPDATE, doc.get_update(seen))
    await writer.say(web.STEP_1, doc.get_state())
    while (await writer.hear())[0] != web.STEP_2:
        pass


async def _opened_ms(port: int, path: str, state: bytes) -> float:
    """Return how long it takes a client to connect, and to get what it lacks."""
    began = time.perf_counter()
    async with web.connected(port) as client:
        update = await client.open(path, state)
        took_ms = (time.perf_counter() - began) * 1000
    assert len(update) > _AWAY
    return took_ms


@contextmanager
def node(parent: Path) -> Iterator[tuple[int, Callable[[int], str]]]:
    """Serve with a node of ours."""
    (folder,) = make_folders(parent, "node")
    with in_other(web.run_node, folder, ()) as pipe:
        yield pipe.recv()[1], lambda number: web.path_of(100 + number)
        pipe.send("stop")


@contextmanager
def _pycrdt_websocket(_parent: Path) -> Iterator[tuple[int, Callable[[int], str]]]:
    with web.pycrdt_websocket() as port:
        yield port, "/{}".format


@contextmanager
def _y_websocket(_parent: Path) -> Iterator[tuple[int, Callable[[int], str]]]:
    port = free_port()
    environment = {**os.environ, "HOST": LOOPBACK, "PORT": str(port)}
    command = ["node", str(_Y_SERVER)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            pin(1, process.pid)
            _wait_for_port(port)
            yield port, "/{}".format
        finally:
            process.terminate()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), create_connection((LOOPBACK, port)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port} within {_PATIENCE_S:g} s")


# -- directories ---------------------------------------------------------------------------


def _of_directories(
    hold: Callable[[Path], AbstractContextManager[tuple[Path, Path]]],
    edits: int,
    folder: Path,
    quick: bool,
) -> _Row:
    count = 200 if quick else 2_000
    with hold(folder) as (one, two):
        line_ms = files.saves_ms(one, two, edits)
        began = time.perf_counter()
        files.fill(one / "many", count)
        files.wait_for_files(two / "many", count)
        took_ms = (time.perf_counter() - began) * 1000
    return {_LINE: line_ms, _MANY[count]: [took_ms]}


def _rsync(folder: Path, quick: bool) -> _Row:
    count = 200 if quick else 2_000
    one, two = folder / "from", folder / "to"
    one.mkdir()
    command = ["rsync", "--archive", f"{one}/", f"{two}/"]
    line_ms = []
    for number in range(20):
        began = time.perf_counter()
        with (one / files.FILE).open("a") as file:
            file.write(f"line {number} of what an agent has to remember\n")
        subprocess.run(command, check=True)
        line_ms.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    files.fill(one / "many", count)
    subprocess.run(command, check=True)
    return {_LINE: line_ms, _MANY[count]: [(time.perf_counter() - began) * 1000]}


def _ours(folder: Path, quick: bool) -> _Row:
    return {
        **_of_documents(node, folder, quick),
        **_of_directories(files.bound_nodes, 20 if quick else 100, folder, quick),
    }


def _has(command: str) -> bool:
    return shutil.which(command) is not None


_PEERS: Final[dict[str, tuple[Callable[[], bool], Callable[[Path, bool], _Row]]]] = {
    OURS: (lambda: True, _ours),
    "y-websocket": (
        lambda: _Y_SERVER.exists() and _has("node"),
        partial(_of_documents, _y_websocket),
    ),
    "pycrdt-websocket": (
        lambda: find_spec("pycrdt.websocket") is not None,
        partial(_of_documents, _pycrdt_websocket),
    ),
    "Syncthing": (lambda: _has("syncthing"), partial(_of_directories, files.syncthing, 3)),
    "rsync": (lambda: _has("rsync"), _rsync),
}
