"""Lan: hosts in network namespaces, and the switch between them, which misbehaves on demand.

Each host is a namespace with one network interface, a TAP device, whose other end is a file here;
a thread carries Ethernet frames from file to file. So hosts have the kernel's own TCP and real
multicast, and each way from one host to another can be blocked, slow, narrow or lossy by itself.
It needs root, `ip` and /dev/net/tun, and neither netem nor packet filters of the kernel.
"""

import fcntl
import heapq
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from phextsync.errors import PhextsyncError

FOLDER_PREFIX: Final = "phextsync-"
"""Of temporary folders in which a run has mounted disks."""

_TUN: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP_NO_PI: Final = 0x1002
_MAC: Final = b"\x02\x70\x68\x78\x00"  # and the host's number; locally administered
_FRAME_BYTES_MAX: Final = 1 << 16
_FRAMES_AT_ONCE: Final = 64
_BACKLOG_S: Final = 1.0  # of a narrow way; when full, frames are lost, as in a router
_ARMED_S: Final = 1.5  # peers say something every second
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_TCP: Final = 6
_SYN: Final = 0x02
_RST: Final = 0x04
_ACK: Final = 0x10
_NAME: Final = re.compile(r"^phext(\d+)-\d+$")


def missing() -> str | None:
    """Say what this machine lacks to have hosts, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip, of iproute2"
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as error:
        return f"virtual network interfaces need {_TUN}: {error.strerror}"
    return None


@dataclass(slots=True)
class Way:
    """How frames get from one host to another. `reset_until`, `garble_until`: the next TCP segment
    before that time ends its connection, or holds random bytes under a right checksum."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    is_blocked: bool = False
    reset_until: float = 0.0
    garble_until: float = 0.0
    busy_until: float = 0.0
    last_arrival: float = 0.0


@dataclass(slots=True)
class Counters:
    """What hosts sent: Ethernet frames, all protocols."""

    frames: int = 0
    bytes: int = 0


@dataclass(order=True, slots=True)
class _UnderWay:
    arrival: float
    number: int
    target: int = field(compare=False)
    frame: bytes = field(compare=False)


class Lan:
    """Hosts 0 to `count` - 1 at 10.77.0.1 and so on, for as long as the block lasts.

    Names hold this process's id: what a dead process left is removed by the next `Lan`.
    """

    def __init__(self, count: int, *, random: Random | None = None) -> None:
        self.names = [f"phext{os.getpid()}-{i}" for i in range(count)]
        self.counters = Counters()
        self._ways = {(a, b): Way() for a in range(count) for b in range(count) if a != b}
        self._random = random or Random(0)
        self._taps: list[int] = []
        self._under_way: list[_UnderWay] = []
        self._number = 0

    def __enter__(self) -> "Lan":
        """Make the hosts. PhextsyncError when this machine cannot have any."""
        reason = missing()
        if reason is not None:
            raise PhextsyncError(reason)
        remove_leftovers()
        with ExitStack() as stack:
            for number, name in enumerate(self.names):
                stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
                self._taps.append(_add_host(name, number))
                stack.callback(os.close, self._taps[-1])
            wake, waker = os.pipe()
            stack.callback(os.close, wake)
            thread = threading.Thread(target=self._carry_frames, args=(wake,), name="switch")
            thread.start()
            stack.callback(thread.join)
            stack.callback(os.close, waker)  # the first to happen: it ends the thread
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away again; processes on the hosts have to be gone."""
        self._stack.close()

    def prefixes(self) -> list[list[str]]:
        """Return what runs a command on each host."""
        return [["ip", "netns", "exec", name] for name in self.names]

    # -- what can go wrong -----------------------------------------------------------------

    def unplug(self, host: int) -> None:
        """Pull a host's cable; it notices."""
        _ip("-n", self.names[host], "link", "set", "eth0", "carrier", "off")

    def plug_in(self, host: int) -> None:
        _ip("-n", self.names[host], "link", "set", "eth0", "carrier", "on")

    def block_multicast(self) -> None:
        for name in self.names:
            _ip("-n", name, "link", "set", "eth0", "multicast", "off")
            _ip("-n", name, "link", "set", "lo", "multicast", "off")

    def way(self, source: int, target: int) -> Way:
        """Return the way from one host to another, to change it."""
        return self._ways[source, target]

    def ways(self) -> list[tuple[tuple[int, int], Way]]:
        """Return all ways with their ends."""
        return list(self._ways.items())

    def reset(self, source: int, target: int) -> None:
        """Let what `source` says next to `target` end their connection, if it has one."""
        self._ways[source, target].reset_until = time.monotonic() + _ARMED_S

    def garble(self, source: int, target: int) -> None:
        """Let what `source` says next to `target` arrive as random bytes."""
        self._ways[source, target].garble_until = time.monotonic() + _ARMED_S

    # -- the switch, a thread of its own ---------------------------------------------------

    def _carry_frames(self, wake: int) -> None:
        poll = select.epoll()
        sources = {descriptor: i for i, descriptor in enumerate(self._taps)}
        for descriptor in (*self._taps, wake):
            poll.register(descriptor, select.EPOLLIN)
        with poll:
            while True:
                wait_s = self._under_way[0].arrival - time.monotonic() if self._under_way else 60.0
                ready = poll.poll(max(0.0, wait_s))
                if any(descriptor == wake for descriptor, _ in ready):
                    return
                now = time.monotonic()
                for descriptor, _ in ready:
                    for frame in _read_some(descriptor):
                        self._switch(now, sources[descriptor], frame)
                while self._under_way and self._under_way[0].arrival <= now:
                    arrived = heapq.heappop(self._under_way)
                    # EIO: the host is unplugged; EAGAIN: it takes no more. The frame is lost.
                    with suppress(OSError):
                        os.write(self._taps[arrived.target], arrived.frame)

    def _switch(self, now: float, source: int, frame: bytes) -> None:
        self.counters.frames += 1
        self.counters.bytes += len(frame)
        if frame[0] & 1:  # multicast
            targets = [i for i in range(len(self._taps)) if i != source]
        elif frame[:5] == _MAC and frame[5] < len(self._taps) and frame[5] != source:
            targets = [frame[5]]
        else:
            return
        for target in targets:
            self._send(now, source, target, frame)

    def _send(self, now: float, source: int, target: int, frame: bytes) -> None:
        way = self._ways[source, target]
        if way.is_blocked or (way.loss and self._random.random() < way.loss):
            return
        start = max(now, way.busy_until)
        if way.bytes_per_s:
            if start - now > _BACKLOG_S:
                return
            start += len(frame) / way.bytes_per_s
        way.busy_until = start
        arrival = start + way.latency_s
        if way.jitter_s:
            arrival += self._random.random() * way.jitter_s
        way.last_arrival = arrival = max(arrival, way.last_arrival)
        if now < max(way.reset_until, way.garble_until):
            frame = self._spoil(now, way, frame)
        self._number += 1
        heapq.heappush(self._under_way, _UnderWay(arrival, self._number, target, frame))

    def _spoil(self, now: float, way: Way, frame: bytes) -> bytes:
        start = _tcp_header(frame)
        if start is None or frame[start + 13] & (_SYN | _RST):
            return frame
        spoilt = bytearray(frame)
        payload = start + (frame[start + 12] >> 4) * 4
        if now < way.reset_until:
            way.reset_until = 0.0
            spoilt[start + 13] = _RST | _ACK
        elif payload < len(frame):
            way.garble_until = 0.0
            spoilt[payload:] = self._random.randbytes(len(frame) - payload)
        _write_checksum(spoilt, start)
        return bytes(spoilt)


# -- frames --------------------------------------------------------------------------------


def _read_some(tap: int) -> Iterator[bytes]:
    """Iterate over the frames that wait, a bounded number so that every host has its turn."""
    for _ in range(_FRAMES_AT_ONCE):
        try:
            yield os.read(tap, _FRAME_BYTES_MAX)
        except BlockingIOError:
            return


def _tcp_header(frame: bytes) -> int | None:
    """Return where the TCP header begins, None when there is none."""
    if frame[12:14] == _IPV4 and frame[23] == _TCP:
        return 14 + (frame[14] & 15) * 4
    if frame[12:14] == _IPV6 and frame[20] == _TCP:
        return 54
    return None


def _write_checksum(frame: bytearray, start: int) -> None:
    """Make the checksum of a TCP segment right again (RFC 9293, 3.1)."""
    frame[start + 16 : start + 18] = b"\0\0"
    addresses = frame[26:34] if frame[12:14] == _IPV4 else frame[22:54]
    segment = frame[start:]
    data = addresses + struct.pack(">HH", _TCP, len(segment)) + segment
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame[start + 16 : start + 18] = (~total & 0xFFFF).to_bytes(2, "big")


# -- namespaces ----------------------------------------------------------------------------


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _add_host(name: str, number: int) -> int:
    """Make a host and return the other end of its cable."""
    _ip("netns", "add", name)
    tap = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI))
        mac = (_MAC + bytes([number])).hex(":")
        _ip("link", "set", name, "netns", name, "name", "eth0", "address", mac)
        _ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "route", "add", "default", "dev", "eth0")
    except BaseException:
        os.close(tap)
        raise
    return tap


def remove_leftovers() -> None:
    """End the processes, hosts and disks of runs whose own process has ended without doing so."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        name = line.split()[0]
        if _is_left(_NAME.match(name)):
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in found.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, folder = line.split()[:2]
        if _is_left(_NAME.match(device)):
            subprocess.run(["umount", "--lazy", folder], capture_output=True)
            if Path(folder).parent.name.startswith(FOLDER_PREFIX):
                shutil.rmtree(Path(folder).parent, ignore_errors=True)


def _is_left(match: re.Match[str] | None) -> bool:
    return match is not None and not Path("/proc", match[1]).exists()
