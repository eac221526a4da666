"""A node is started with the machine, and tells the service manager how it is."""

import os
import plistlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner, Result

from phextsync.cli import service as service_cli
from phextsync.cli.main import app
from phextsync.cli.services import Command, Service, service_of
from phextsync.cli.supervisor import Supervisor
from phextsync.errors import PhextsyncError
from sims.processes import PATIENCE_S, Process, make_folder

_PROGRAM = ("/usr/bin/python3", "-P", "-m", "phextsync.cli")
_SECTIONS = {"Unit", "Service", "Install"}


def _service(folder: Path, platform: str = "linux") -> Service:
    return service_of(platform, folder, _PROGRAM, Path("/home/me"), {})


def _read(text: str) -> dict[str, dict[str, str]]:
    """Read a unit by the rules of systemd.syntax(7): sections, settings, comments."""
    sections: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert equals, line
            assert name.isalnum(), line
            assert name not in section, line
            section[name] = value
    return sections


def test_the_unit_says_when_a_node_is_ready_hangs_and_is_started_again(tmp_path: Path) -> None:
    unit = _read(_service(tmp_path).text)
    assert unit.keys() == _SECTIONS
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["Restart"] == "on-failure"
    assert service["NoNewPrivileges"] == "yes"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert "network" not in "".join(unit["Unit"]).lower()  # it starts before there is one
    assert unit["Install"]["WantedBy"] == "default.target"


def test_a_unit_is_of_its_folder_and_the_usual_one_has_the_plain_name() -> None:
    usual, other = _service(Path("/home/me/.phextsync")), _service(Path("/srv/data"))
    assert usual.path == Path("/home/me/.config/systemd/user/phextsync.service")
    assert other.name != usual.name
    assert other.name == _service(Path("/srv/data")).name
    elsewhere = service_of("linux", Path("/d"), _PROGRAM, Path("/h"), {"XDG_CONFIG_HOME": "/c"})
    assert elsewhere.path.parent == Path("/c/systemd/user")


def test_a_path_is_one_word_of_the_command_whatever_is_in_it() -> None:
    unit = _read(_service(Path('/a b/50%/$HOME/"x"\\n')).text)
    given = '"/a b/50%%/$$HOME/\\"x\\"\\\\n"'
    assert unit["Service"]["ExecStart"] == (
        f'"/usr/bin/python3" "-P" "-m" "phextsync.cli" "--data" {given} "up"'
    )


def test_the_program_is_where_systemd_looks_for_it() -> None:
    def unit(program: str) -> dict[str, str]:
        made = service_of("linux", Path("/data\\"), (program,), Path("/home/me"), {})
        return _read(made.text)["Service"] | _read(made.text)["Unit"]

    assert unit("/a $b/50%/python3")["ExecStart"].startswith('"/a $b/50%%/python3" "--data" ')
    assert unit("/python3")["Description"] == "phextsync: /data"  # goes on in no other line
    for sign in "\"'\\":
        with pytest.raises(PhextsyncError, match="install phextsync in an environment elsewhere"):
            unit(f"/a{sign}b/python3")


def test_a_path_cannot_bring_settings_of_its_own() -> None:
    with pytest.raises(PhextsyncError, match="printed in one line"):
        _service(Path("/a\nExecStartPre=/bin/evil"))


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    service = service_of("linux", tmp_path / "a b", (sys.executable, "-m", "x"), tmp_path, {})
    service.path.parent.mkdir(parents=True)
    service.path.write_text(service.text)
    assert _read(service.text).keys() == _SECTIONS
    if (verify := shutil.which("systemd-analyze")) is not None:
        command = [verify, "--user", "--man=no", "verify", str(service.path)]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        told = [line for line in done.stderr.splitlines() if service.path.name in line]
        assert told == []


def test_launchd_is_told_the_same_by_its_own_means() -> None:
    table = plistlib.loads(_service(Path("/data"), "darwin").text.encode())
    assert table["ProgramArguments"][:7] == [*_PROGRAM, "--data", "/data", "up"]
    assert table["KeepAlive"] == {"SuccessfulExit": False}
    assert table["RunAtLoad"] is True


def test_elsewhere_the_command_to_start_is_named() -> None:
    with pytest.raises(PhextsyncError, match=r"found win32: .*--data /data up"):
        _service(Path("/data"), "win32")


# -- the commands ----------------------------------------------------------------------------


class _Manager:
    """What service managers are told; what they answer is `status` and `said`."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.status, self.said = 0, ""

    def __call__(self, command: Command) -> tuple[int, str]:
        self.told.append(command)
        return self.status, self.said


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Manager:
    manager = _Manager()
    monkeypatch.setattr(service_cli, "run", manager)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return manager


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


def _run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--data", str(folder), "service", *words])


def _units(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "home").rglob("*.service")]


def test_what_could_not_start_is_not_installed(
    manager: _Manager, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config.toml").write_text('http = "0.0.0.0"')
    monkeypatch.setenv("PHEXTSYNC_HTTP_TOKEN", "which no service has")
    result = _run(folder, "install")
    assert result.exit_code == 1
    assert "config.toml, by which it is to run: --http 0.0.0.0: expected" in result.output
    assert manager.told == []
    assert _units(tmp_path) == []


def test_printing_changes_nothing(manager: _Manager, folder: Path, tmp_path: Path) -> None:
    result = _run(folder, "install", "--print")
    assert result.exit_code == 0
    assert str(folder) in _read(result.stdout)["Service"]["ExecStart"]
    assert manager.told == []
    assert _units(tmp_path) == []


def test_a_service_comes_is_seen_and_goes(manager: _Manager, folder: Path, tmp_path: Path) -> None:
    assert _run(folder, "status").exit_code == 1
    assert _run(folder, "install").exit_code == 0
    (unit,) = _units(tmp_path)
    names = [command[2] for command in manager.told]
    assert names == ["daemon-reload", "enable"]
    assert manager.told[-1][-1] == unit.name
    assert _run(folder, "status").exit_code == 0
    manager.status, manager.said = 3, "inactive"
    result = _run(folder, "status")
    assert result.exit_code == 1
    assert "does not run (inactive)" in result.stdout
    manager.status, manager.told = 0, []
    assert _run(folder, "remove").exit_code == 0
    assert [command[2] for command in manager.told] == ["disable", "daemon-reload"]
    assert _units(tmp_path) == []
    assert (folder / "identity.pem").exists()
    assert _run(folder, "remove").exit_code == 1


def test_a_manager_that_refuses_is_told_in_a_line(
    manager: _Manager, folder: Path, tmp_path: Path
) -> None:
    manager.status, manager.said = 1, "Failed to connect to bus"
    result = _run(folder, "install")
    assert result.exit_code == 1
    assert "systemctl --user daemon-reload: Failed to connect to bus" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    manager.said = "Failed"
    assert _run(folder, "remove").exit_code == 1
    assert len(_units(tmp_path)) == 1


def test_a_machine_without_a_manager_is_told_in_a_line(
    manager: _Manager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: Command) -> tuple[int, str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(service_cli, "run", run)
    result = _run(folder, "install")
    assert result.exit_code == 1
    assert "expected systemctl, found none" in result.stderr


def test_what_would_not_start_is_not_installed(
    manager: _Manager, folder: Path, tmp_path: Path
) -> None:
    (folder / "config.toml").write_text("wrong = 1")
    result = _run(folder, "install")
    assert result.exit_code != 0
    assert "line 1" in str(result.exception)
    assert _units(tmp_path) == []


# -- what the manager is told ----------------------------------------------------------------


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd has open: a datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        yield listening


def _heard(listener: socket.socket) -> dict[str, str]:
    pairs = [line.partition("=") for line in listener.recv(4096).decode().splitlines()]
    return {name: value for name, _, value in pairs}


async def test_a_node_is_ready_once_and_shows_that_it_lives_twice_an_interval(
    listener: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    wanted = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "20000000"}
    supervisor = Supervisor(wanted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve, lambda: f"at {trio.current_time():.0f}")
        began = trio.current_time()
        await trio.sleep(25)
        nursery.cancel_scope.cancel()
    assert _heard(listener) == {"READY": "1", "STATUS": f"at {began:.0f}"}
    assert _heard(listener) == {"WATCHDOG": "1", "STATUS": f"at {began + 10:.0f}"}
    assert _heard(listener) == {"WATCHDOG": "1", "STATUS": f"at {began + 20:.0f}"}
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(1)


@pytest.mark.parametrize(
    ("environment", "pause_s"),
    [
        ({}, 30.0),
        ({"WATCHDOG_USEC": "8000000"}, 4.0),
        ({"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "7"}, 4.0),
        ({"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "8"}, 30.0),
        ({"WATCHDOG_USEC": "600000000"}, 30.0),
        ({"WATCHDOG_USEC": "0"}, 30.0),
        ({"WATCHDOG_USEC": "soon"}, 30.0),
    ],
)
def test_signs_of_life_are_as_often_as_the_manager_wants(
    environment: dict[str, str], pause_s: float
) -> None:
    assert Supervisor(environment, 7).pause_s == pause_s


def test_a_name_in_the_abstract_is_understood() -> None:
    name = f"phextsync-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(PATIENCE_S)
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).tell(STATUS="two\nlines")
        assert _heard(listening) == {"STATUS": "two\\nlines"}


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(
    listener: socket.socket, tmp_path: Path
) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "none")}).tell(READY=1)
    deaf = Supervisor({"NOTIFY_SOCKET": listener.getsockname()})
    for _ in range(10_000):  # more than any system keeps for who does not read
        deaf.tell(WATCHDOG=1)


async def test_where_nobody_manages_nothing_is_done() -> None:
    await Supervisor({}).serve(lambda: "")  # and it ends at once


@pytest.mark.real
def test_a_node_says_that_it_is_ready_lives_and_stops(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    options = ("--no-mdns", "--host", "127.0.0.1", "--port", "0")
    process = Process(make_folder(tmp_path / "data"), (), options)
    process.launch()
    try:
        told = [_heard(listener), _heard(listener)]
        assert told[0]["STATUS"] == "opens the data folder"
        assert told[1]["READY"] == "1"
        port = process.status()["port"]
        assert told[1]["STATUS"] == f"listens on port {port}, 0 peers"
        assert _heard(listener)["WATCHDOG"] == "1"
    finally:
        process.stop()
    while "STOPPING" not in (last := _heard(listener)):
        assert "WATCHDOG" in last
    assert last["STOPPING"] == "1"
