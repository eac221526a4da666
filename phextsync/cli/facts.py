"""What there is to know of a folder, its node and this machine, for the checks of `doctor`.

Nothing is changed, and nothing raises: what cannot be told is None.
"""

import ctypes
import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from phextsync.addresses import reached_at
from phextsync.cli.checks import SILENT, Facts
from phextsync.cli.settings import Settings, read_settings
from phextsync.cli.starting import check_start
from phextsync.control import operations
from phextsync.control.status import Status
from phextsync.discovery import Address, parse_address
from phextsync.errors import PhextsyncError, StoreError, StoreVersionError
from phextsync.handles.visit import visit
from phextsync.mounts import kind_of
from phextsync.node.node import DEFAULT_PORT
from phextsync.store.folder import DATA_FILE, STORE, is_locked, place_in_memory
from phextsync.systems.resources import open_files_max
from phextsync.systems.rights import user
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.private_files import IDENTITY_FILE

_GROUP: Final = "224.0.0.251"  # that of mDNS; sent to a port at which nobody else listens
_MULTICAST_WAIT_S: Final = 2.0
_TIME_ERROR: Final = 5  # what `adjtimex` says of a clock that nothing keeps right
_TIMEX_BYTES: Final = 512  # more than any system's `struct timex` has
_FOLDERS_MAX: Final = 1_000_000
_INOTIFY: Final = Path("/proc/sys/fs/inotify")
_UNITS: Final = Path("/run/systemd/units")  # a link for each unit that is active
_FIREWALLS: Final = ("firewalld", "nftables", "iptables", "netfilter-persistent")
_UFW: Final = Path("/etc/ufw/ufw.conf")


def gather(folder: Path) -> Facts:
    """Return what is known of a data folder, of its node and of this machine. Takes 10 s where
    the node does not answer, and 2 s where multicast does not come back."""
    status, problem, is_damaged, is_in_use = _status(folder)
    settings, settings_problem = _settings(folder)
    values = settings.values
    rows = [Path(row.directory) for row in status.directories] if status else []
    is_running = status is not None and status.running
    is_silent = problem == SILENT
    finds_peers = values.get("mdns", True) is True
    inotify = list(_inotify())
    return Facts(
        folder=folder,
        status=status,
        problem=problem,
        is_damaged=is_damaged,
        is_in_use=is_in_use,
        settings_problem=settings_problem,
        start_problem="" if is_running or settings_problem else _start_problem(settings),
        identity_mode=_mode(folder / IDENTITY_FILE),
        identity_problem=_identity_problem(folder),
        is_writable=_is_writable(folder),
        kind=kind_of(folder),
        in_memory=place_in_memory(folder) is not None,
        free_bytes=_free_bytes(folder),
        ports={f"port {status.port}": ""}
        if status and is_running
        else dict(() if is_silent else _ports(settings)),  # it is not in its own way
        firewalls=_firewalls(),
        finds_peers=finds_peers,
        multicast_problem=_multicast_problem() if finds_peers else "",
        now_s=time.time(),
        is_clock_synchronized=_is_clock_synchronized(),
        descriptors=_descriptors(_owner(folder) if is_running else None),
        watches=_watches(inotify, [] if is_running else rows),
        watchers=_watchers(inotify),
        kinds={str(directory): kind_of(directory) for directory in rows},
    )


def _status(folder: Path) -> tuple[Status | None, str, bool, bool]:
    """Return how a node is, or why that cannot be told, whether that may be mended here, and
    whether somebody has the folder open, who may be about to do so."""
    told: list[str] = []
    try:
        with visit(folder, told.append, _wait_no_longer) as asked:
            return operations.STATUS.ask(asked), "", False, False
    except (PhextsyncError, OSError) as error:
        is_in_use = _is_in_use(folder)
        may_mend = isinstance(error, StoreError) and not isinstance(error, StoreVersionError)
        return None, " ".join(str(error).split()), may_mend and not is_in_use, is_in_use


def _is_in_use(folder: Path) -> bool:
    with suppress(OSError):
        return is_locked(folder)
    return False


def _wait_no_longer(_: str) -> None:
    raise PhextsyncError(SILENT)


def _settings(folder: Path) -> tuple[Settings, str]:
    try:
        return read_settings(folder), ""
    except StoreError as error:
        return Settings(folder, {}), str(error)


def _start_problem(settings: Settings) -> str:
    """Return why `up` would not serve what the file says, "" if it would."""
    try:
        check_start(settings, os.environ)
    except PhextsyncError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _identity_problem(folder: Path) -> str:
    try:
        NodeIdentity.load(folder)
    except PhextsyncError as error:
        return str(error)
    return ""


def _is_writable(folder: Path) -> bool:
    """Whether this user may write to the folder and its store, on a disk that takes it."""
    files = (folder, folder / STORE / DATA_FILE)
    return all(os.access(each, os.W_OK) for each in files if each.exists())


def _mode(path: Path) -> int | None:
    with suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    return None


def _free_bytes(folder: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def _owner(folder: Path) -> int | None:
    """Return the number of the process that runs the node."""
    with suppress(OSError, ValueError):
        return int((folder / "store.lock").read_text().split(" ")[0])
    return None


# -- the network ---------------------------------------------------------------------------


def _ports(settings: Settings) -> Iterator[tuple[str, str]]:
    """Give where a node that does not run is to listen, and why it could not."""
    port, host = settings.values.get("port", DEFAULT_PORT), str(settings.values.get("host", ""))
    links = Address(host, int(port) if isinstance(port, int) else DEFAULT_PORT)
    if "port" not in settings.values and (problem := _listen_problem(links)):
        any_free = _listen_problem(Address(host, 0))
        told = f"any port, since {links.port} cannot be had"
        if any_free == problem:  # it is not for the port
            told = f"host {host or '*'}"
        yield f"links, {told}", any_free
        links = Address(host, 0)
    for what, address in (
        ("links", links),
        *((what, _door(settings, what)) for what in ("http", "web")),
    ):
        if address is not None and address.port:
            yield f"{what}, port {address.port}", _listen_problem(address)


def _door(settings: Settings, what: str) -> Address | None:
    text = settings.values.get(what)
    if not text:
        return None
    try:
        if what == "http":
            from phextsync.gateways.http import DEFAULT_PORT as port
        else:
            from phextsync.web.serving import DEFAULT_PORT as port
    except ImportError:  # `up` says which packages it needs
        return None
    return parse_address(str(text), port)


def _listen_problem(address: Address) -> str:
    """Return why nobody can listen at an address, "" when one can."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        return (error.strerror or str(error)).partition(" (while ")[0]  # Python adds what it tried
    return ""


def _firewalls() -> tuple[str, ...] | None:
    """Return those that are known to be active, None where that cannot be told."""
    if not _UNITS.is_dir():
        return None
    names = [name for name in _FIREWALLS if os.path.lexists(_UNITS / f"invocation:{name}.service")]
    with suppress(OSError, UnicodeDecodeError):
        if re.search(r"^\s*ENABLED=[\"']?yes", _UFW.read_text(), re.MULTILINE | re.IGNORECASE):
            names.insert(0, "ufw")
    return tuple(names)


def _multicast_problem() -> str:
    """Return why multicast does not come back to this machine, "" when it does."""
    own = next((host for host in reached_at(None) if ":" not in host), "127.0.0.1")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(_MULTICAST_WAIT_S)
            probe.bind(("", 0))
            group = socket.inet_aton(_GROUP) + socket.inet_aton(own)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            probe.sendto(b"phextsync doctor", (_GROUP, probe.getsockname()[1]))
            probe.recv(64)
    except TimeoutError:
        return f"what is sent to {_GROUP} by {own} does not come back"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _is_clock_synchronized() -> bool | None:
    """Whether something keeps the clock right, as Linux tells."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None), "adjtimex", None)
    if call is None:
        return None
    state = int(call(ctypes.create_string_buffer(_TIMEX_BYTES)))  # zeros: it only asks
    return None if state < 0 else state != _TIME_ERROR


# -- what the system allows ----------------------------------------------------------------


def _descriptors(process: int | None) -> tuple[int, int] | None:
    """Return how many files a process has open, and how many it may; None is this one."""
    place = Path("/proc", "self" if process is None else str(process))
    try:
        used = len(os.listdir(place / "fd"))
        found = re.search(r"^Max open files\s+(\d+)", (place / "limits").read_text(), re.MULTILINE)
    except OSError:
        most = open_files_max()
        return None if process or most is None else (0, most)
    return None if found is None else (used, int(found[1]))


def _watches(inotify: Iterable[str], directories: Iterable[Path]) -> tuple[int, int, int] | None:
    """Return how many watches this user's programs have, how many the directories need besides,
    and how many there may be."""
    most = _number(_INOTIFY / "max_user_watches")
    if most is None:
        return None
    used = sum(info.count("inotify wd:") for info in inotify)
    return used, sum(map(_folders, directories)), most


def _watchers(inotify: list[str]) -> tuple[int, int] | None:
    """Return how many instances of inotify this user's programs have, and may have."""
    most = _number(_INOTIFY / "max_user_instances")
    return None if most is None else (len(inotify), most)


def _inotify() -> Iterator[str]:
    """Give what the system tells of each instance of inotify of this user's programs."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid != user():
                continue
            for entry in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(entry) == "anon_inode:inotify":
                        yield (process / "fdinfo" / entry.name).read_text()


def _folders(directory: Path) -> int:
    count = 0
    for _ in os.walk(directory):
        count += 1
        if count == _FOLDERS_MAX:
            break
    return count


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
