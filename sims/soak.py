"""A long run: three real nodes that do all that nodes do, for hours, with text that stays as large.

Each has a bound directory, whose files are saved again and again with another line, and agents that
put texts into scrolls and read them; one serves browsers that type over web sockets, go and come
again. One node of the others stands still at times, as when its cable is pulled, and one is killed
or stopped and started again. What each process takes is written as a line of JSON now and then; at
the end the first third of it is compared with the last. The status is 1 when something grows, or
when the nodes do not become equal.

    python -m sims.soak --minutes 60 --folder soak
    python -m sims.soak --minutes 60 --folder soak      goes on where the first ended
"""

import argparse
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pycrdt import Doc, Text
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, Ping, Request

from phextsync.control.client import Attachment
from phextsync.errors import PhextsyncError
from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import Coordinate, CoordinateRange
from phextsync.varints import varints
from phextsync.web.lib0 import Reader, sized
from sims.arguments import amount
from sims.ports import free_port
from sims.processes import Process, mesh, reopened, wait_until_equal
from sims.series import growing, read, sample

_HOST: Final = "127.0.0.1"
_NAMES: Final = ("still", "cut", "killed")  # what is done to each
_RANGE: Final = CoordinateRange.parse("7.*")
_FILES: Final = 20
_LINES: Final = 30
_LINE_CHARACTERS: Final = 60
_SCROLLS: Final = 50
_BROWSERS: Final = 8
_STEP_1, _STEP_2, _UPDATE = range(3)
_SILENCE_S: Final = 5.0  # longer than a link waits
_FAULT_S: Final = (20.0, 60.0)  # between faults, drawn at random
_SAMPLE_S: Final = 10.0


class Browser:
    """A tab with one scroll, over y-websocket's protocol; it keeps its document and its client id
    when its socket goes."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._doc: Doc[Text] = Doc()
        self._text = self._doc.get("text", type=Text)
        self._socket: socket.socket | None = None
        self._data = b""

    def open(self) -> None:
        """Connect, and say what it has. OSError when nobody answers."""
        self._socket = socket.create_connection((_HOST, self._port), timeout=30)
        self._web = WSConnection(ConnectionType.CLIENT)
        self._data = b""
        self._socket.sendall(self._web.send(Request(host=_HOST, target=self._path)))
        while self._web.state is ConnectionState.CONNECTING:
            if not (data := self._socket.recv(1 << 16)):
                raise ConnectionError("expected an answer, found the end")
            self._web.receive_data(data)
        self._say(_STEP_1, self._doc.get_state())

    def close(self) -> None:
        """End the socket, as when the tab sleeps."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def type(self, source: random.Random, characters_max: int) -> None:
        """Type over one character, or a new one while the text is short."""
        if self._socket is None:
            self.open()
        self._hear()
        before = self._doc.get_state()
        length = len(str(self._text))
        with self._doc.transaction():
            if length >= characters_max:
                at = source.randrange(length)
                del self._text[at : at + 1 + length - characters_max]
            self._text.insert(min(length, source.randrange(characters_max)), source.choice("abcde"))
        self._say(_UPDATE, self._doc.get_update(before))

    def _hear(self) -> None:
        """Take what has come."""
        assert self._socket is not None
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while data := self._socket.recv(1 << 16):
                self._web.receive_data(data)
        self._socket.settimeout(30)
        for event in self._web.events():
            if isinstance(event, Ping):
                self._socket.sendall(self._web.send(event.response()))
            elif isinstance(event, BytesMessage):
                self._data += event.data
                if event.message_finished:
                    self._take(Reader(self._data))
                    self._data = b""
            elif not isinstance(event, AcceptConnection):
                raise ConnectionError(f"expected a message, found {event}")

    def _take(self, reader: Reader) -> None:
        if reader.integer() == 0:
            kind, data = reader.integer(), reader.bytes()
            if kind == _STEP_1:
                self._say(_STEP_2, self._doc.get_update(data))
            else:
                self._doc.apply_update(data)

    def _say(self, kind: int, data: bytes) -> None:
        assert self._socket is not None
        message = BytesMessage(data=varints(0, kind) + sized(data))
        self._socket.sendall(self._web.send(message))


class Soak:
    """A run of three nodes, from `_NAMES`, in a folder."""

    def __init__(self, folder: Path, nodes: Sequence[Process], port: int, seed: int) -> None:
        self._nodes = nodes
        self._source = random.Random(seed)
        self._directories = [folder / f"{node.folder.name}-files" for node in nodes]
        self._browsers = [Browser(port, f"/sync/soak/{_at(i)}") for i in range(_BROWSERS)]
        self._attached: dict[int, Attachment] = {}
        self._since: dict[int, float] = {}
        self._samples = folder / "samples.jsonl"
        self.edits = 0
        self.refused = 0

    def start(self) -> None:
        """Let all run, with their directories."""
        for node, directory in zip(self._nodes, self._directories, strict=True):
            directory.mkdir(exist_ok=True)
            if not BindingStore(node.folder).bindings():
                BindingStore(node.folder).bind(Bound(directory, "soak", _RANGE))
        self._start(0)
        peer = f"{_HOST}:{self._nodes[0].status()['port']}"
        for number, node in enumerate(self._nodes[1:], 1):
            node.options = (*node.options, "--peer", peer)
            self._start(number)

    def run(self, minutes: float, rate: float) -> None:
        """Make `rate` edits a second for so long, on all ways, with faults."""
        began = now = time.monotonic()
        sampled = now
        fault = now + self._source.uniform(*_FAULT_S)
        habits: list[Callable[[], None]] = [self._save, self._agent, self._type, self._type]
        while now < began + minutes * 60:
            habit = self._source.choice(habits)
            try:
                habit()
                self.edits += 1
            except (OSError, PhextsyncError):
                self.refused += 1
                self._forget()
            if now >= fault:
                self._fault()
                fault = time.monotonic() + self._source.uniform(*_FAULT_S)
            if now >= sampled:
                self._sample()
                sampled = now + _SAMPLE_S
            time.sleep(max(0.0, began + (self.edits + self.refused) / rate - time.monotonic()))
            now = time.monotonic()

    def end(self) -> None:
        """Let all become equal, and stop. AssertionError when they do not."""
        for browser in self._browsers:
            browser.close()
        self._forget()
        wait_until_equal(self._nodes)

    def growing(self, warm_s: float) -> tuple[list[str], list[str]]:
        """As `series.growing`, of all that was written so far."""
        return growing(read(self._samples), warm_s)

    def _start(self, number: int) -> None:
        self._since[number] = time.monotonic()
        self._nodes[number].start()

    # -- users ---------------------------------------------------------------------------------

    def _save(self) -> None:
        """Save a file with another line, as editors do: a draft takes its name."""
        path = self._source.choice(self._directories) / f"{self._source.randrange(_FILES)}.md"
        lines = path.read_text().splitlines() if path.exists() else []
        lines = [*lines, *(self._line() for _ in range(len(lines), _LINES))][:_LINES]
        lines[self._source.randrange(_LINES)] = self._line()
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(path)

    def _agent(self) -> None:
        number = self._source.randrange(len(self._nodes))
        if number not in self._attached:
            self._attached[number] = Attachment(self._nodes[number].folder)
        attached = self._attached[number]
        place = str(_at(100 + self._source.randrange(_SCROLLS)))
        attached.ask("set", "soak", place, "\n".join(self._line() for _ in range(5)))
        attached.ask("get", "soak", place)

    def _type(self) -> None:
        browser = self._source.choice(self._browsers)
        try:
            browser.type(self._source, 400)
        except OSError:
            browser.close()
            raise
        if self._source.random() < 0.01:
            browser.close()

    def _line(self) -> str:
        return "".join(self._source.choices("abcdefgh ijklm", k=_LINE_CHARACTERS))

    # -- faults and figures --------------------------------------------------------------------

    def _fault(self) -> None:
        _, cut, killed = self._nodes
        if self._source.random() < 0.5:
            cut.send_signal(signal.SIGSTOP)
            time.sleep(_SILENCE_S)
            cut.send_signal(signal.SIGCONT)
        else:
            killed.stop(self._source.choice((signal.SIGKILL, signal.SIGTERM)))
            self._forget()
            self._start(2)

    def _forget(self) -> None:
        """Close what was attached, which may lead to a node that has ended."""
        for attached in self._attached.values():
            attached.__exit__()
        self._attached.clear()

    def _sample(self) -> None:
        with self._samples.open("a") as file:
            for number, node in enumerate(self._nodes):
                found = sample(
                    node.folder.name,
                    node.pid,
                    node.folder,
                    self._since[number],
                    self.edits,
                    node.status()["open_bytes"],
                )
                file.write(found.to_json() + "\n")


def _at(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + number)


def run(folder: Path, *, minutes: float, rate: float, seed: int, warm_s: float) -> int:
    """Run in a folder, on what an earlier run left there; print what each process took."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ("--host", _HOST, "--port", "0", "--no-mdns")
    given = [folder / name for name in _NAMES]
    are_known = all(each.exists() for each in given)
    with (
        reopened(given, options=options) if are_known else mesh(folder, _NAMES, options=options)
    ) as nodes:
        port = free_port()
        nodes[0].options = (*nodes[0].options, "--web", f"{_HOST}:{port}")
        soak = Soak(folder, nodes, port, seed)
        soak.start()
        soak.run(minutes, rate)
        soak.end()
        told, grown = soak.growing(warm_s)
    made = f"{soak.edits} edits, {soak.refused} refused"
    print(*told, *grown, f"{made}: {'FAILED' if grown else 'nothing grows'}", sep="\n")
    return 1 if grown else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims.soak", description=__doc__)
    parser.add_argument("--minutes", type=amount, default=60.0)
    parser.add_argument("--rate", type=amount, default=20.0, help="edits a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", type=float, default=300.0, help="seconds of each life left out")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="kept, and gone on with")
    options = parser.parse_args(arguments)
    return run(
        options.folder,
        minutes=options.minutes,
        rate=options.rate,
        seed=options.seed,
        warm_s=options.warm,
    )


if __name__ == "__main__":
    sys.exit(main())
