"""What a service manager is told of a node: that it is ready, how it is, that it lives, that it
stops (systemd's sd_notify: lines in a datagram to the socket that NOTIFY_SOCKET names)."""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

from phextsync.terminal import visible

_PAUSE_S: Final = 30.0
_STATUS_CHARACTERS_MAX: Final = 200


class Supervisor:
    """Tells the service manager under which this process runs; nobody where there is none."""

    def __init__(self, environment: Mapping[str, str], process: int | None = None) -> None:
        """Read what the manager says in the environment of a process, by default this one."""
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.pause_s = _PAUSE_S
        """Between two signs of life."""
        whose = environment.get("WATCHDOG_PID", "")
        if whose in ("", str(process or os.getpid())):
            with suppress(ValueError):
                wanted_s = int(environment.get("WATCHDOG_USEC", "")) / 1e6
                if wanted_s > 0:
                    self.pause_s = min(_PAUSE_S, wanted_s / 2)

    def tell(self, **facts: str | int) -> None:
        """Tell what is so. A manager that does not listen is told nothing, and holds nobody up."""
        if sys.platform == "win32" or not self._address:
            return
        lines = [
            f"{name}={visible(str(fact))[:_STATUS_CHARACTERS_MAX]}" for name, fact in facts.items()
        ]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)

    async def serve(self, status: Callable[[], str]) -> None:
        """Tell that the node is ready, and from then on how it is and that it lives, until
        cancelled. Told in the loop in which the node runs: one that hangs says nothing."""
        self.tell(READY=1, STATUS=status())
        while self._address:
            await trio.sleep(self.pause_s)
            self.tell(WATCHDOG=1, STATUS=status())
