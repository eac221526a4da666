"""Other systems on this one: modules and names that they lack are gone, and their ways are taken.

`force` is called before `phextsync` is imported: `PHEXTSYNC_TESTS_AS=win32 pytest ...` does so.
What comes from elsewhere is imported first, for this machine. Files stay those of POSIX.
"""

import builtins
import importlib
import os
import signal
import socket
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Final

_OTHERS: Final = (
    "cbor2", "cryptography.x509", "h11", "httpx", "hypothesis", "ifaddr", "jinja2", "lmdb", "mcp",
    "mcp.server.lowlevel", "multiprocessing.connection", "pathspec", "prometheus_client",
    "psutil", "pycrdt", "pytest_trio.plugin", "rich.console", "starlette.applications",
    "trio.testing", "typer", "uvicorn", "watchfiles", "wsproto", "xdist.plugin", "xxhash",
    "zeroconf.asyncio",
)  # fmt: skip
_MODULES: Final = {
    "win32": ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty", "pty"),
    "darwin": (),
}
_LACKING: Final[Mapping[str, Mapping[types.ModuleType, Sequence[str]]]] = {
    "win32": {
        os: (
            "fork", "geteuid", "getgid", "getegid", "fchown", "killpg", "getpgid",
            "register_at_fork", "pread", "pwrite", "posix_fallocate", "pathconf", "statvfs",
            "sync", "eventfd", "eventfd_read", "eventfd_write", "EFD_CLOEXEC", "EFD_NONBLOCK",
            "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "getloadavg", "mkfifo", "uname",
        ),
        socket: ("AF_UNIX",),
        signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGURG", "SIGCHLD"),
    },
    "darwin": {os: ("posix_fallocate", "eventfd", "eventfd_read", "eventfd_write")},
}  # fmt: skip

ABSENT: Final = tuple(_LACKING["win32"].items())
"""What Windows lacks of each module."""


def force(system: str) -> None:
    """Let what is imported from now on find `win32` or `darwin`."""
    for name in _OTHERS:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    if system == "win32":
        _make_windows()
    else:
        import fcntl

        fcntl.F_FULLFSYNC = fcntl.F_GETFD  # type: ignore[attr-defined]
    real = builtins.__import__

    def of_system(name: str, *rest: object, **named: object) -> types.ModuleType:
        importer = rest[0] if rest else {}
        ours = isinstance(importer, dict) and str(importer.get("__name__")).startswith("phextsync")
        if ours and name in _MODULES[system]:
            raise ModuleNotFoundError(f"No module named {name!r} on {system}", name=name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    builtins.__import__ = of_system
    for module, names in _LACKING[system].items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = system


def _make_windows() -> None:
    """Put in what Windows has besides."""
    import errno
    import fcntl

    def locking(descriptor: int, how: int, count: int) -> None:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert (at, count) == (1 << 30, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if how == 2 else 0))
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "locked") from error

    windows = types.ModuleType("msvcrt")
    vars(windows).update(locking=locking, LK_LOCK=1, LK_NBLCK=2)
    sys.modules["msvcrt"] = windows
    os.O_BINARY = 0  # type: ignore[attr-defined]
    os.O_NOINHERIT = os.O_CLOEXEC  # type: ignore[attr-defined]
    signal.SIGBREAK = signal.SIGQUIT  # type: ignore[attr-defined]
