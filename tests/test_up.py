"""`phextsync up` waits, says what it serves and who comes, and stops cleanly."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phextsync.store.folder import lock_folder
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.ports import free_port
from sims.processes import PATIENCE_S, POLL_S, Process, make_folder

pytestmark = pytest.mark.real

_OPTIONS = ("--no-mdns", "--host", "127.0.0.1", "--port", "0")


@contextmanager
def _up(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Process]:
    process = Process(folder, prefix, (*_OPTIONS, *options))
    process.launch()
    try:
        yield process
    finally:
        process.stop()


def _until(condition: Callable[[], object], process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(POLL_S)


@pytest.fixture(autouse=True)
def hears_sighup() -> Iterator[None]:
    """What these tests start must not be under the `nohup` that may have started them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def _is_running(status: dict[str, object]) -> bool:
    return bool(status["running"])


def _mesh(tmp_path: Path) -> tuple[Path, Path]:
    key = MeshKey.generate(os.urandom(32))
    for name in ("one", "two"):
        NodeIdentity.create(key, name, os.urandom(32)).save(tmp_path / name)
    return tmp_path / "one", tmp_path / "two"


def test_a_node_waits_for_a_command_that_has_the_folder_open(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    lock = lock_folder(folder)
    with _up(folder) as process:
        _until(lambda: "waiting for it to end" in process.log.read_text(), process)
        os.close(lock)
        process.wait_until(_is_running)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_a_node_cleanly(tmp_path: Path, which: signal.Signals) -> None:
    folder = make_folder(tmp_path / "data")
    with _up(folder) as process:
        process.wait_until(_is_running)
        process.ask("set", "memory", "1.1.1/1.1.1/1.1.1", "text")
        process.send_signal(which)
        _until(process.has_ended, process)
        assert (folder / "closed").exists()


def test_a_node_that_is_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    with _up(folder, prefix=("nohup",)) as process:
        process.wait_until(_is_running)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        process.wait_until(_is_running)


def test_a_node_says_what_it_serves_and_which_peers_come_and_go(tmp_path: Path) -> None:
    one, two = _mesh(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    command = [sys.executable, "-m", "phextsync.cli", "bind", str(notes), "--at", "7.*"]
    subprocess.run([*command, "--data", str(one)], check=True)
    log = tmp_path / "logs" / "one"
    log.parent.mkdir()
    http = f"127.0.0.1:{free_port()}"
    secret = tmp_path / "secret"
    secret.write_text("unseen")
    hook = ("--hook", "https://127.0.0.1:9/hidden", "--hook-secret-file", str(secret))
    with _up(one, "--http", http, "--log", str(log), *hook) as first:
        _until(lambda: "is bound to" in first.log.read_text(), first)  # the last of what it says
        port = first.status()["port"]
        with _up(two, "--quiet", f"--peer=127.0.0.1:{port}") as second:
            _until(lambda: "two (" in first.log.read_text(), first)
            shown = first.log.read_text()
            assert f"listens on port {port}\n  at 127.0.0.1:{port}\n" in shown
            assert f"\n  HTTP at http://{http}\n" in shown
            assert "\n  changes are posted to https://127.0.0.1:9\n" in shown
            assert f"\n  {notes} is bound to 7.* of memory\n" in shown
            second.wait_until(lambda status: len(status["peers"]) == 1)
        _until(lambda: ") is gone: " in first.log.read_text(), first)
        _until(lambda: "is gone" in log.read_text(), first)
        assert "two (" in log.read_text()
    assert two.with_name("two.log").read_text() == ""


def test_an_output_that_nobody_reads_ends_no_node(tmp_path: Path) -> None:
    one, two = _mesh(tmp_path)
    command = [sys.executable, "-m", "phextsync.cli", "up", *_OPTIONS, "--data", str(one)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        try:
            assert node.stdout is not None
            assert node.stderr is not None
            assert b"listens on port" in node.stdout.readline()
            node.stdout.close()
            node.stderr.close()
            first = Process(one, (), ())
            with _up(two, f"--peer=127.0.0.1:{first.status()['port']}"):
                first.wait_until(lambda status: len(status["peers"]) == 1)
            first.wait_until(lambda status: not status["peers"])
            assert node.poll() is None
        finally:
            node.terminate()
    assert node.returncode == 0
