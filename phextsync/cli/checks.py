"""What `phextsync doctor` looks at: each check is a function of facts, which `facts` gathers.

A check says what it found, and where something is wrong or cannot be told, what to do, in one line.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

from rich.filesize import decimal

from phextsync.cli.common import counted
from phextsync.cli.status import errors_line, has_recent
from phextsync.control.status import Status
from phextsync.files.status import reasons_of
from phextsync.mounts import is_memory, is_network, is_shared
from phextsync.sync.messages import PROTOCOL_MAJOR, PROTOCOL_MINOR
from phextsync.trust.private_files import IDENTITY_FILE

_FREE_BYTES_MIN: Final = 256 << 20
_DESCRIPTORS_MIN: Final = 512
_DESCRIPTORS_SHARE: Final = 0.8
_BUILT_S: Final = 1_735_689_600.0  # the beginning of 2025
_DAY_S: Final = 86400.0
_PROTOCOL: Final = f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"


class Level(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    UNKNOWN = "unknown"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `advice` is empty where there is nothing to do."""

    check: str
    level: Level
    found: str
    advice: str = ""


SILENT: Final = "runs, but does not answer"
"""The problem of a node that hangs, or has much to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a folder, its node and this machine. None is what the system did not tell.

    `status` is None where it could not be had, for `problem`; `is_damaged` if `repair` may mend
    that, `is_in_use` if somebody has the folder open. `start_problem` is what `up` would say of
    what config.toml says. `in_memory`: scrolls are not in the folder. `ports` are those that the
    node is to listen on, by what they are for, with why they cannot be; of a node that runs, only
    those that it did not get. `kinds` are the file systems of directories. `watches` are those in
    use, those that are needed besides, and how many there may be; `watchers` the same, of programs
    that watch.
    """

    folder: Path
    status: Status | None = None
    problem: str = ""
    is_damaged: bool = False
    is_in_use: bool = False
    settings_problem: str = ""
    start_problem: str = ""
    identity_mode: int | None = None
    identity_problem: str = ""
    is_writable: bool = True
    kind: str = ""
    in_memory: bool = False
    free_bytes: int | None = None
    ports: Mapping[str, str] = field(default_factory=dict)
    firewalls: tuple[str, ...] | None = None
    finds_peers: bool = True
    multicast_problem: str = ""
    now_s: float = 0.0
    is_clock_synchronized: bool | None = None
    descriptors: tuple[int, int] | None = None
    watches: tuple[int, int, int] | None = None
    watchers: tuple[int, int] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)


Check: TypeAlias = Callable[[Facts], Iterator[Finding]]


def findings(facts: Facts) -> list[Finding]:
    """Return what all checks found, each in its turn."""
    return [finding for check in CHECKS for finding in check(facts)]


# -- the folder ----------------------------------------------------------------------------


def identity(facts: Facts) -> Iterator[Finding]:
    """Whether there are keys, which nobody else may read."""
    path = facts.folder / IDENTITY_FILE
    if facts.identity_mode is None:
        advice = "`phextsync init` or `phextsync join` makes it"
        yield Finding("identity", Level.WRONG, f"there is no {path} that can be read", advice)
    elif facts.identity_mode & 0o077:
        found = f"{path} has mode {facts.identity_mode:04o}: others may have read it"
        advice = f"chmod 600 {path}; if others did, change the key: `phextsync rotate`"
        yield Finding("identity", Level.WRONG, found, advice)
    elif facts.identity_problem:
        yield Finding("identity", Level.WRONG, facts.identity_problem)
    else:
        yield Finding("identity", Level.OK, f"nobody else may read {path}")


def configuration(facts: Facts) -> Iterator[Finding]:
    """Whether config.toml can be read, and `up` can do what it says."""
    if facts.start_problem:
        found = f"`phextsync up` would end: {facts.start_problem}"
        yield Finding("configuration", Level.WRONG, found, "mend config.toml, or what it names")
    elif facts.settings_problem:
        advice = "mend that; `phextsync config` shows what holds then"
        yield Finding("configuration", Level.WRONG, facts.settings_problem, advice)
    else:
        yield Finding("configuration", Level.OK, "`phextsync config` shows it")


def node(facts: Facts) -> Iterator[Finding]:
    """Whether the node runs, or its folder can be read."""
    if facts.status is None and facts.in_memory and facts.problem != SILENT:
        found = "does not run; `phextsync up --data-in-memory` starts it"
        yield Finding("node", Level.OK, found)
    elif facts.status is None:
        advice = (
            "`phextsync check` says more, `phextsync repair` mends it" if facts.is_damaged else ""
        )
        if facts.problem == SILENT:
            advice = "wait, or end it and start it again"
        elif facts.is_in_use:
            advice = "another process has the folder open: look again when it is done"
        yield Finding("node", Level.WRONG, facts.problem, advice)
    elif facts.status.running:
        writes = facts.status.store.is_writable
        found = f"runs on port {facts.status.port}"
        yield (
            Finding("node", Level.OK, found)
            if writes
            else Finding(
                "node", Level.WRONG, f"{found}, and its disk refuses what it writes", _ROOM
            )
        )
    else:
        yield Finding("node", Level.OK, "does not run; `phextsync up` starts it")


def errors(facts: Facts) -> Iterator[Finding]:
    """Whether something failed in the node of late."""
    if facts.status is None or not facts.status.running:
        return
    if has_recent(facts.status.errors, facts.now_s):
        advice = "its log has more; `journalctl --user` or `up --log FILE` shows it"
        yield Finding("errors", Level.WRONG, errors_line(facts.status.errors), advice)
    else:
        yield Finding("errors", Level.OK, "none in the last hour")


_ROOM: Final = "make room, or see whether the disk is read-only; nothing is lost while it runs"


def disk(facts: Facts) -> Iterator[Finding]:
    """Whether there is room, on a disk that LMDB can be on and that keeps what is written."""
    if facts.in_memory:
        found = f"scrolls are in memory while the node runs; {facts.folder} has the key"
        yield Finding("disk", Level.OK, found)
    elif is_network(facts.kind):
        found = f"{facts.folder} lies on {facts.kind}, a file system over a network"
        advice = "move it to a local disk, or `phextsync up --data-in-memory`"
        yield Finding("disk", Level.WRONG, found, advice)
    elif is_memory(facts.kind):
        found = f"{facts.folder} lies in memory ({facts.kind}), and others count it as on a disk"
        advice = "it ends with the machine: have one copy more elsewhere, and name it no voter"
        yield Finding("disk", Level.WRONG, found, advice)
    if not facts.is_writable and not facts.in_memory:
        advice = "let it belong to the user who runs the node, on a disk that may be written"
        yield Finding("disk", Level.WRONG, f"{facts.folder} may not be written", advice)
    elif facts.free_bytes is None:
        yield Finding("disk", Level.UNKNOWN, f"cannot tell how much is free at {facts.folder}")
    elif facts.free_bytes < _FREE_BYTES_MIN:
        yield Finding("disk", Level.WRONG, f"{decimal(facts.free_bytes)} are free", _ROOM)
    else:
        yield Finding("disk", Level.OK, f"{decimal(facts.free_bytes)} are free")


# -- the network ---------------------------------------------------------------------------


def ports(facts: Facts) -> Iterator[Finding]:
    """Whether the node listens where it is to."""
    for what, problem in facts.ports.items():
        if problem:
            advice = "end what listens there, or name another in config.toml"
            yield Finding("ports", Level.WRONG, f"{what}: {problem}", advice)
        else:
            runs = facts.status is not None and facts.status.running
            yield Finding("ports", Level.OK, f"{what}: {'served' if runs else 'free'}")


def firewall(facts: Facts) -> Iterator[Finding]:
    """Whether a firewall may be in the way, as far as that can be told."""
    if facts.firewalls is None:
        yield Finding("firewall", Level.UNKNOWN, "cannot tell whether there is one", _LET_THROUGH)
    elif facts.firewalls:
        found = f"{' and '.join(facts.firewalls)}: cannot tell what it lets through"
        yield Finding("firewall", Level.UNKNOWN, found, _LET_THROUGH)
    else:
        yield Finding("firewall", Level.OK, "none is known to be active on this machine")


_LET_THROUGH: Final = "it has to let in 7439 TCP, or your own port, and 5353 UDP for mDNS"


def multicast(facts: Facts) -> Iterator[Finding]:
    """Whether peers can be found by mDNS."""
    if not facts.finds_peers:
        yield Finding("multicast", Level.OK, "not used: --no-mdns")
    elif facts.multicast_problem:
        found = f"mDNS cannot find peers: {facts.multicast_problem}"
        yield Finding("multicast", Level.WRONG, found, "name an address: `phextsync up --peer`")
    else:
        yield Finding("multicast", Level.OK, "comes back to this machine")


def clock(facts: Facts) -> Iterator[Finding]:
    """Whether the clock is right: it dates history and ends certificates, and decides no merge."""
    status = facts.status
    seen = [row.last_seen_s for row in status.absent if row.last_seen_s] if status else []
    told = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts.now_s))
    if facts.now_s < _BUILT_S or any(each > facts.now_s + _DAY_S for each in seen):
        found = f"it shows {told} UTC, earlier than what it has seen"
        yield Finding("clock", Level.WRONG, found, _SET_CLOCK)
    elif facts.is_clock_synchronized is None:
        yield Finding("clock", Level.UNKNOWN, f"{told} UTC; cannot tell whether it is kept right")
    elif not facts.is_clock_synchronized:
        found = f"{told} UTC; nothing keeps it right"
        yield Finding("clock", Level.UNKNOWN, found, _SET_CLOCK)
    else:
        yield Finding("clock", Level.OK, f"{told} UTC, kept right")


_SET_CLOCK: Final = "let it be kept right: timedatectl set-ntp true, or chrony"


def versions(facts: Facts) -> Iterator[Finding]:
    """Whether connected peers speak the same protocol, and none was refused for it."""
    status = facts.status
    if status is None or not status.running:
        yield Finding("versions", Level.UNKNOWN, "no node runs that could ask its peers")
        return
    other = {
        f"{peer.name} {peer.protocol or 'none'}"
        for peer in status.peers
        if peer.protocol != _PROTOCOL
    }
    refused = {row.name or row.address for row in status.absent if "version" in row.reason}
    if other or refused:
        said = [*sorted(other), *(f"{name} was refused" for name in sorted(refused))]
        found = f"{_PROTOCOL} here; {', '.join(said)}"
        level = Level.WRONG if refused else Level.UNKNOWN
        yield Finding("versions", level, found, "upgrade the older ones, one after the other")
    else:
        peers = counted(len(status.peers), "connected peer")
        yield Finding("versions", Level.OK, f"protocol {_PROTOCOL} here and at {peers}")


# -- what the system allows ----------------------------------------------------------------


def descriptors(facts: Facts) -> Iterator[Finding]:
    """Whether enough files may be open at once."""
    if facts.descriptors is None:
        yield Finding("descriptors", Level.UNKNOWN, "cannot tell how many files may be open")
        return
    used, most = facts.descriptors
    found = f"{used} of {most} are open"
    if most < _DESCRIPTORS_MIN or used > _DESCRIPTORS_SHARE * most:
        advice = "allow more: ulimit -n 4096, or LimitNOFILE= in the unit"
        yield Finding("descriptors", Level.WRONG, found, advice)
    else:
        yield Finding("descriptors", Level.OK, found)


def watches(facts: Facts) -> Iterator[Finding]:
    """Whether all folders of bound directories can be watched (Linux's inotify)."""
    if facts.watches is None:
        yield Finding("watches", Level.UNKNOWN, "cannot tell how many folders may be watched")
        return
    used, needed, most = facts.watches
    found = f"{used} of {most} are in use" + (f", {needed} more are needed" if needed else "")
    if used + needed > most:
        advice = f"sysctl fs.inotify.max_user_watches={max(2 * most, 2 * (used + needed))}"
        yield Finding("watches", Level.WRONG, found, advice)
    elif facts.watchers is not None and facts.watchers[0] >= facts.watchers[1]:
        found = f"all {facts.watchers[1]} programs that may watch do"
        advice = f"sysctl fs.inotify.max_user_instances={2 * facts.watchers[1]}"
        yield Finding("watches", Level.WRONG, found, advice)
    else:
        yield Finding("watches", Level.OK, found)


def directories(facts: Facts) -> Iterator[Finding]:
    """Whether bound directories are in step."""
    status = facts.status
    if status is None:
        return
    for row in status.directories:
        kind = facts.kinds.get(row.directory, "")
        if is_shared(kind):
            found = f"{row.directory} lies on {kind}: looked through every few seconds"
            advice = "what another machine writes there is seen late; bind a local one if you can"
            yield Finding("directories", Level.UNKNOWN, found, advice)
        elif row.is_served and row.is_taken_up and row.watcher.startswith("looks"):
            found = f"{row.directory}: {row.watcher}"
            yield Finding("directories", Level.UNKNOWN, found, "see what `watches` says here")
        reasons = list(reasons_of(row)) if status.running else []
        for reason in reasons:
            yield Finding("directories", Level.WRONG, reason, "see `phextsync status`")
        if not reasons:
            count = f"{row.files:,} files, in step" if status.running else "bound"
            yield Finding("directories", Level.OK, f"{row.directory}: {count}")


CHECKS: Final[tuple[Check, ...]] = (
    identity,
    configuration,
    node,
    errors,
    disk,
    ports,
    firewall,
    multicast,
    clock,
    versions,
    descriptors,
    watches,
    directories,
)
"""All checks, in the order in which they are told."""
