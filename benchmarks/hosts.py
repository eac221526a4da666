"""Hosts for node processes: network namespaces on a bridge of the kernel's, which is in one more.

Whatever a host says crosses a pair of virtual Ethernet devices and the bridge, and no process.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from phextsync.errors import PhextsyncError


@contextmanager
def hosts(count: int) -> Iterator[list[list[str]]]:
    """Yield what runs a command on each host. PhextsyncError when this machine cannot have any."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise PhextsyncError("network namespaces need root and the command ip, of iproute2")
    switch = _switch(count)
    with ExitStack() as stack:
        _add(stack, switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        names = [f"phext{os.getpid()}-{i}" for i in range(count)]
        for i, name in enumerate(names):
            _add(stack, name)
            end = f"host{i}"
            cable = ("link", "add", "eth0", "type", "veth", "peer", "name", end, "netns", switch)
            _ip("-n", name, *cable)
            _ip("-n", switch, "link", "set", end, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            _ip("-n", name, "route", "add", "default", "dev", "eth0")
        yield [["ip", "netns", "exec", name] for name in names]


@contextmanager
def halves(count: int) -> Iterator[tuple[list[list[str]], Callable[[bool], None]]]:
    """The same, and what cuts the second half of the hosts off from the first, or joins them."""
    with hosts(count) as prefixes:
        switch = _switch(count)
        _ip("-n", switch, "link", "add", "other", "type", "bridge")
        _ip("-n", switch, "link", "set", "other", "up")
        _ip("-n", switch, "link", "add", "trunk", "type", "veth", "peer", "name", "end")
        _ip("-n", switch, "link", "set", "trunk", "master", "bridge", "up")
        _ip("-n", switch, "link", "set", "end", "master", "other", "up")
        for i in range(count // 2, count):
            _ip("-n", switch, "link", "set", f"host{i}", "master", "other")

        def cut(is_cut: bool) -> None:
            _ip("-n", switch, "link", "set", "trunk", "down" if is_cut else "up")

        yield prefixes, cut


def _switch(count: int) -> str:
    return f"phext{os.getpid()}-{count}"


def _add(stack: ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise PhextsyncError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
