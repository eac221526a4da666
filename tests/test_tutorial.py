"""What pages show typed works as it stands, on machines that are folders of this one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from sims.ports import free_port
from sims.processes import PATIENCE_S
from tests.other_programs import other_programs

_ROOT: Final = Path(__file__).parents[1]
_PAGES: Final = (
    "README.md",
    "docs/tutorial.md",
    "docs/howto/administered-mesh.md",
    "docs/howto/from-directories.md",
    "docs/howto/from-git.md",
    "docs/howto/from-syncthing.md",
    "docs/howto/mail.md",
    "docs/howto/names.md",
    "docs/howto/sq.md",
    "docs/howto/tasks.md",
)
_STICK: Final = "/media/stick"  # that is carried from machine to machine
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CODE: Final = re.compile(r"phextsync1-\S+")
_CHANGING: Final = re.compile(
    r".*>|phextsync (init|join|set|append|rm|names \S+ \S|bind|undelete \d|box \w|send|ack"
    r"|request|issue|accept|migrate .*--yes|task (voters \w|add|claim|done|fail|retry))"
)
_VARYING: Final = re.compile(r"phextsync1-\S+|[0-9a-f]{8,}|\d[\d:.-]*(?: (?:bytes|kB|us|ms))?")
_POLL_S: Final = 0.5  # a look is a process, which takes as long


@dataclass
class _Step:
    """A command on a machine, or "" for Ctrl-C at its node, and what the page shows of it."""

    machine: str
    command: str
    shown: list[str] = field(default_factory=list)


def _steps(page: str) -> Iterator[_Step]:
    for block in _BLOCK.findall((_ROOT / page).read_text()):
        step: _Step | None = None
        for line in block.splitlines():
            typed = re.match(r"(\w+)\$ (.*)", line)
            stopped = re.match(r"# (\w+): press Ctrl-C$", line)
            if typed or stopped:
                if step:
                    yield step
                step = (
                    _Step(typed[1], typed[2]) if typed else _Step(str(stopped and stopped[1]), "")
                )
            elif step:
                step.shown.append(line)
        if step:
            yield step


class _Machines:
    """Homes of machines below a folder, and the nodes that run in them."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        self.folder = folder
        self._addresses = addresses  # as they stand on the page, and as they are
        self.code = ""
        self._ports: dict[str, int] = {}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def carry_out(self, step: _Step) -> None:
        """Do what the page says and compare what it shows; wait where another machine is asked."""
        if not step.command:
            self._stop(step.machine)
        elif step.command == "phextsync up":
            self._start(step)
        else:
            self._run(step)

    def close(self) -> None:
        """Stop all nodes."""
        for machine in list(self._nodes):
            self._stop(machine)

    def _home(self, machine: str) -> Path:
        home = self.folder / machine
        home.mkdir(exist_ok=True)
        return home

    def _environment(self, machine: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"HOME": str(self._home(machine)), "PATH": path, "LC_ALL": "C.UTF-8"}

    def _run(self, step: _Step) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                ["bash", "-c", self._as_typed(step.command)],
                cwd=self._home(step.machine),
                env=self._environment(step.machine),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            found = done.stdout.decode()
            if _lines(found, self._home(step.machine)) == _lines("\n".join(step.shown)):
                self.code = self.code or (_CODE.findall(found) or [""])[0]
                return
            assert time.monotonic() < deadline, f"{step}: found {found!r}"
            assert not _CHANGING.match(step.command), f"{step}: found {found!r}"
            time.sleep(_POLL_S)

    def _as_typed(self, command: str) -> str:
        command = command.replace("CODE", self.code).replace(_STICK, str(self.folder))
        for shown, address in self._addresses.items():
            command = command.replace(shown, address)
        return command

    def _start(self, step: _Step) -> None:
        """Run a node in the background, at a port of its own, with the first one as its peer."""
        first = next(iter(self._ports.values()), None)
        port = self._ports.setdefault(step.machine, free_port())
        words = ["phextsync", "up", "--no-mdns", "--host", "127.0.0.1", "--port", str(port)]
        if first not in (None, port):
            words += ["--peer", f"127.0.0.1:{first}"]
        log = self._home(step.machine) / "up.log"
        with log.open("wb") as out:
            self._nodes[step.machine] = subprocess.Popen(
                words, env=self._environment(step.machine), stdout=out, stderr=out
            )
        deadline = time.monotonic() + PATIENCE_S
        shown = set(_lines("\n".join(step.shown))) - {""}
        while not shown <= set(_lines(log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(_POLL_S)

    def _stop(self, machine: str) -> None:
        node = self._nodes.pop(machine)
        node.send_signal(signal.SIGINT)
        node.wait(PATIENCE_S)


def _lines(text: str, home: Path = Path("/home/me")) -> list[str]:
    """Return lines without what differs from run to run: ids, times, addresses, numbers."""
    text = text.replace(str(home), "/home/me").strip()
    return [" ".join(_VARYING.sub("#", line).split()) for line in text.splitlines()]


@pytest.mark.real
@pytest.mark.parametrize("page", _PAGES)
def test_the_commands_of_a_page_work_as_they_stand(tmp_path: Path, page: str) -> None:
    steps = list(_steps(page))
    assert len(steps) >= 6
    with other_programs(page, tmp_path) as addresses:
        machines = _Machines(tmp_path, addresses)
        try:
            for step in steps:
                machines.carry_out(step)
        finally:
            machines.close()
