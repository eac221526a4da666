"""The files that start a node with the machine: a unit for systemd, a property list for launchd.

Texts, paths and commands alone; nothing is written or run here.
"""

import hashlib
import os
import plistlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from phextsync.errors import PhextsyncError
from phextsync.systems.rights import user

Command: TypeAlias = tuple[str, ...]

_NAME: Final = "phextsync"
_DIGEST_CHARACTERS: Final = 8
_UNIT: Final = """\
# Made by `phextsync service install`; `phextsync service remove` takes it away.
[Unit]
Description=phextsync: {folder}
# No network is waited for: the node listens at once, and finds peers when there is one.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=5
# A store that is rebuilt or upgraded may take long; only a node that was ready can hang.
TimeoutStartSec=infinity
TimeoutStopSec=60
WatchdogSec=120
LimitNOFILE=8192
# What is denied needs neither root nor namespaces, so that it holds for every user; bound
# directories may be anywhere, so files are not restricted.
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A file that a service manager reads, where it is, and what tells the manager of it: `remove`
    before it is taken away, `forget` after that."""

    name: str
    path: Path
    text: str
    install: tuple[Command, ...]
    remove: tuple[Command, ...]
    forget: tuple[Command, ...]
    status: Command
    logs: str


def service_of(
    platform: str, folder: Path, program: Sequence[str], home: Path, environment: Mapping[str, str]
) -> Service:
    """Return the service that runs the node of a data folder. `program` is the command's path and
    first words. PhextsyncError on a platform without a manager that is known."""
    command = [*program, "--data", str(folder), "up"]
    is_default = folder == home / ".phextsync"
    name = _NAME if is_default else f"{_NAME}-{_digest(folder)}"
    if platform == "linux":
        return _systemd(name, folder, command, home, environment)
    if platform == "darwin":
        return _launchd(name, folder, command, home)
    raise PhextsyncError(
        f"expected systemd or launchd, found {platform}: let its own means start "
        f"{shlex.join(command)}"
    )


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:_DIGEST_CHARACTERS]


def _systemd(
    name: str, folder: Path, command: list[str], home: Path, environment: Mapping[str, str]
) -> Service:
    unit = f"{name}.service"
    settings = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    line = " ".join([_quoted_program(command[0]), *map(_quoted, command[1:])])
    text = _UNIT.format(folder=_escaped(str(folder)).rstrip("\\"), command=line)
    systemctl = ("systemctl", "--user")
    return Service(
        name,
        settings / "systemd" / "user" / unit,
        text,
        ((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", unit)),
        ((*systemctl, "disable", "--now", unit),),
        ((*systemctl, "daemon-reload"),),
        (*systemctl, "is-active", unit),
        f"journalctl --user -u {unit}",
    )


def _escaped(text: str) -> str:
    """Return a text as a unit has it: `%` begins something else there, a line end a new setting."""
    if not text.isprintable():
        raise PhextsyncError(f"expected a path that is printed in one line, found {text!r:.100}")
    return text.replace("%", "%%")


def _quoted_program(path: str) -> str:
    """Return the path of a program as a unit has it: no variable is looked for in it, and systemd
    takes none with quotes or a backslash."""
    if found := re.search(r"[\"'\\]", path):
        raise PhextsyncError(
            f"expected a Python whose path systemd takes, found {found[0]} in {path}: "
            "install phextsync in an environment elsewhere"
        )
    return f'"{_escaped(path)}"'


def _quoted(word: str) -> str:
    """Return a word as a command of a unit has it."""
    text = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'


def _launchd(name: str, folder: Path, command: list[str], home: Path) -> Service:
    # By launchd.plist(5) and launchctl(1); not verified on such a machine.
    label = f"org.{name}"
    path = home / "Library" / "LaunchAgents" / f"{label}.plist"
    log = folder / "service.log"
    table = {
        "Label": label,
        "ProgramArguments": [*command, "--quiet", "--log", str(folder / "phextsync.log")],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ProcessType": "Background",
        "SoftResourceLimits": {"NumberOfFiles": 8192},
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    domain = f"gui/{user()}"
    return Service(
        name,
        path,
        plistlib.dumps(table).decode(),
        (("launchctl", "bootstrap", domain, str(path)),),
        (("launchctl", "bootout", f"{domain}/{label}"),),
        (),
        ("launchctl", "print", f"{domain}/{label}"),
        f"tail -f {shlex.quote(str(folder / 'phextsync.log'))}",
    )
