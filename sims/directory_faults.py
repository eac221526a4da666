"""What else happens to directories: partitions, crashes, refusals of disks, what is mounted,
checkouts of version control, and those who write scrolls and maps.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import Final

from phextsync.files.absences import GUARD_NAMES
from phextsync.files.markers import MARKER_FILE
from phextsync.files.names import Line, NameMap
from phextsync.testing.inodes import Inode
from sims.directory_oracle import name_of
from sims.directory_schedules import MACHINES, Step
from sims.directory_world import READING, WRITING, Killed, World
from sims.habits import NAMES
from sims.lines import tokens_in, tokens_of
from sims.machines import MAP, RANGE

_REFUSALS: Final = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EPERM, errno.EACCES),
    *(errno.EMFILE, errno.ENAMETOOLONG),
)
_READ_REFUSALS: Final = (errno.EIO, errno.EACCES, errno.EMFILE, errno.ENFILE)


class Faults:
    """What happens in a world besides what its users do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pulls: list[tuple[int, str, str, str]] = []

    def happen(self, step: Step) -> None:
        """Let a step happen that is no user's."""
        getattr(self, f"_do_{step.kind}")(step, Random(step.pick))

    def _do_cut(self, step: Step, source: Random) -> None:
        """A machine, or a pair, cannot reach others; both know."""
        others = [n for n in range(MACHINES) if n != step.machine]
        for other in others if source.random() < 0.6 else [source.choice(others)]:
            pair = frozenset((step.machine, other))
            self._world.cut[pair] = self._world.cut.get(pair, 0) + 1
            self._world.at(self._world.network.now + step.seconds, partial(self._mend, pair))

    def _mend(self, pair: frozenset[int]) -> None:
        self._world.cut[pair] = max(0, self._world.cut.get(pair, 0) - 1)

    def _do_hold(self, step: Step, source: Random) -> None:
        """Nothing arrives from another machine for a while, and nobody knows."""
        pair = frozenset((step.machine, (step.machine + source.randint(1, 2)) % MACHINES))
        self._world.network.held[pair] = None
        until = self._world.network.now + min(step.seconds, 2.5)
        self._world.at(until, lambda: self._world.network.held.pop(pair, None))

    def _do_kill(self, step: Step, source: Random) -> None:
        if self._world.up[step.machine]:
            raise Killed(step.seconds / 2, False)

    def _do_power(self, step: Step, source: Random) -> None:
        if self._world.up[step.machine]:
            raise Killed(step.seconds / 2, True)
        self._world.lose_power(step.machine)

    def _do_refuse(self, step: Step, source: Random) -> None:
        """The file system refuses to write anything, for a while."""
        self._refuse(step, WRITING, source.choice(_REFUSALS))

    def _do_blind(self, step: Step, source: Random) -> None:
        """The file system refuses to read a file, a folder with all in it, or anything."""
        paths = ["", *(path for path, _ in self._world.machines[step.machine].disk.walk())]
        self._refuse(step, READING, source.choice(_READ_REFUSALS), source.choice(paths))

    def _refuse(self, step: Step, names: tuple[str, ...], code: int, below: str = "") -> None:
        refused = self._world.refused[step.machine]
        refused[step.pick] = names, below, code
        self._world.at(self._world.network.now + step.seconds, lambda: refused.pop(step.pick, None))

    def _do_full(self, step: Step, source: Random) -> None:
        """The disk has no room, not for users either."""
        disk = self._world.machines[step.machine].disk
        disk.room = disk.used() + source.choice((0, 30, 200))
        self._world.at(self._world.network.now + step.seconds, partial(setattr, disk, "room", None))

    def _do_store_full(self, step: Step, source: Random) -> None:
        number = step.machine
        self._world.machines[number].peer.is_disk_full = True

        def free() -> None:
            self._world.machines[number].peer.is_disk_full = False

        self._world.at(self._world.network.now + step.seconds, free)

    def _do_clock(self, step: Step, source: Random) -> None:
        """The clock of a machine is set, by much or by little."""
        self._world.clocks[step.machine] += source.choice(
            (-600.0, -step.seconds, -0.01, 0.01, 3600)
        )

    def _do_slip(self, step: Step, source: Random) -> None:
        """Somebody takes most files away by mistake, and puts them back."""
        if not self._world.is_usable(step.machine):
            return
        disk = self._world.machines[step.machine].disk
        before = self._world.tokens(step.machine)
        names = [f"many-{i:02}.md" for i in range(GUARD_NAMES + 4)]
        with suppress(OSError):
            for name in names:
                if disk.find(name) is None:
                    disk.put(name, f"{self._world.lines.token()} of many\n")
        self._world.lines.did(self._world.who(step), before, self._world.tokens(step.machine))
        self._world.at(self._world.network.now + 4.0, partial(self._take_away, step, names))

    def _take_away(self, step: Step, names: Sequence[str]) -> None:
        """Take files away, where they are most of those that the machine knows."""
        machine = self._world.machines[step.machine]
        if not self._world.is_usable(step.machine) or machine.binding is None:
            return
        there = [name for name in names if self._world.is_in_step(step.machine, name)]
        if len(there) < GUARD_NAMES or 2 * len(there) <= len(machine.binding.records):
            return
        texts = {name: machine.disk.get(name).data.decode() for name in there}
        for name in there:
            machine.disk.unlink(name)
        self._world.lines.kept.update(tokens_in(texts))
        self._world.at(
            self._world.network.now + step.seconds, partial(self._put_back, step.machine, texts)
        )

    def _put_back(self, number: int, texts: dict[str, str]) -> None:
        disk = self._world.machines[number].disk
        if not self._world.is_usable(number):
            self._world.at(self._world.network.now + 1.0, partial(self._put_back, number, texts))
            return
        for token in tokens_in(texts):
            del self._world.lines.kept[token]
        self._world.lines.met(tokens_in(texts))  # of what others deleted or moved it is a copy
        for name, text in texts.items():
            with suppress(OSError):
                if disk.find(name) is None:
                    disk.put(name, text)
        self._world.lines.gave_up(tokens_in(texts), self._world.tokens(number))

    def _do_unmount(self, step: Step, source: Random) -> None:
        """The directory is not there, or another one, for a while."""
        disk = self._world.machines[step.machine].disk
        if disk.is_mounted(""):
            return
        disk.mount("")
        if source.random() < 0.3:
            with suppress(OSError):
                disk.put("stranger.md", "of another disk\n")
        self._world.at(self._world.network.now + step.seconds, lambda: disk.unmount(""))

    def _do_unmount_folder(self, step: Step, source: Random) -> None:
        """A folder is on a file system of its own, which goes and comes back."""
        disk = self._world.machines[step.machine].disk
        if disk.find("mnt") is not None or disk.is_mounted(""):
            return
        disk.create("mnt", "folder")
        disk.mount("mnt")
        before = self._world.tokens(step.machine)
        with suppress(OSError):
            disk.put("mnt/far.md", f"{self._world.lines.token()} far away\n")
        self._world.lines.did(self._world.who(step), before, self._world.tokens(step.machine))

        def away() -> None:
            if not disk.is_mounted("") and disk.is_mounted("mnt"):
                with self._other_files(step.machine, "mnt"):
                    inode = disk.unmount("mnt")
                self._world.at(self._world.network.now + step.seconds, partial(back, inode))

        def back(inode: Inode | None) -> None:
            if disk.is_mounted(""):
                self._world.at(self._world.network.now + 1.0, partial(back, inode))
            elif disk.find("mnt") is not None and not disk.is_mounted("mnt"):
                with self._other_files(step.machine, "mnt"):
                    disk.mount("mnt", inode)
                self._world.machines[step.machine].look_through()

        self._world.at(self._world.network.now + 4.0, away)

    @contextmanager
    def _other_files(self, number: int, folder: str) -> Iterator[None]:
        """Other files come to be seen in a folder: their lines meet those of the scrolls. What is
        not seen any more, and nobody had read, is not owed."""
        before = self._world.tokens(number)
        seen = [self._world.places(number)]
        yield
        after = self._world.tokens(number)
        elsewhere = self._world.held()
        hidden = [t for t in before if t not in after and t not in elsewhere]
        self._world.lines.excuse(hidden, f"hidden by a file system at {folder} of {number}")
        seen.append(self._world.places(number))
        below = f"{folder}/"
        self._world.lines.met(
            token
            for places in seen
            for token, paths in places.items()
            if any(path.startswith(below) for path in paths)
        )

    def _do_pull(self, step: Step, source: Random) -> None:
        """Two machines get the same new version of a file that both have, unseen or seen."""
        texts = [m.disk.files() for m in self._world.machines]
        both = [step.machine, (step.machine + source.randint(1, 2)) % MACHINES]
        paths = [
            path
            for path in sorted(texts[both[0]])
            if texts[both[0]][path]
            and texts[both[1]].get(path) == texts[both[0]][path]
            and all(self._world.is_in_step(n, path) for n in both)
            and not path.startswith(".")
        ]
        if not paths:
            return
        path = source.choice(paths)
        text = texts[both[0]][path]
        lines = text.splitlines(keepends=True)
        lines.insert(source.randint(0, len(lines)), f"{self._world.lines.token()} was pulled\n")
        if source.random() < 0.3:
            lines.append(f"{self._world.lines.token()} was pulled too\n")
        for number, delay in zip(both, (0.0, step.seconds / 2), strict=True):
            later = self._world.network.now + delay
            self._world.at(later, partial(self._check_out, number, path, text, "".join(lines)))

    def _check_out(self, number: int, path: str, old: str, text: str) -> None:
        """Write a file as git does, where nobody changed it."""
        machine = self._world.machines[number]
        if not self._world.has_power[number] or machine.disk.text(path) != old:
            return
        before = self._world.tokens(number)
        machine.pulled_at = self._world.network.now
        mode = machine.disk.get(path).mode
        with suppress(OSError):
            machine.disk.unlink(path)
            machine.disk.create(path, "file", mode)
            machine.disk.fill(path, text.encode())
        who = f"pull of {path} on {number} at {self._world.network.now:.2f}"
        self._world.lines.did(who, before, self._world.tokens(number))
        self._pulls.append((number, path, old, text))

    def watch_pulls(self) -> None:
        """The same pull on two machines is one where nothing else happens to the file before the
        machine has taken it."""
        for pull in list(self._pulls):
            number, path, old, text = pull
            machine = self._world.machines[number]
            records = None if machine.binding is None else machine.binding.records
            place = None if records is None else records.at(path)
            if records is not None and place is not None and records.base(place) == text:
                self._pulls.remove(pull)
            elif machine.disk.text(path) != text or (
                place is not None and machine.peer.replica.get(place, "") != old
            ):
                self._pulls.remove(pull)
                self._world.lines.doubled.update(dict.fromkeys(tokens_of(text)))

    def _do_agent(self, step: Step, source: Random) -> None:
        """A program writes into a scroll."""
        if not self._world.up[step.machine]:
            return
        replica = self._world.machines[step.machine].peer.replica
        names = NameMap(RANGE, replica.get(MAP, ""))
        places = [
            c
            for c in replica.coordinates(RANGE)
            if c != MAP and not name_of(names, c).startswith(".")
        ]
        if not places or not self._world.machines[step.machine].peer.replicas.is_writable:
            return
        place = source.choice(places)
        token = self._world.lines.token()
        text = replica.get(place, "")
        end = "" if not text or text.endswith("\n") else "\n"
        replica.append(place, f"{end}{token} says the agent\n")
        self._world.machines[step.machine].peer.commit()  # then the user is told that it is there
        if self._world.machines[step.machine].peer.replicas.is_writable:
            self._world.lines.came(token, self._world.who(step))

    def _do_map(self, step: Step, source: Random) -> None:
        """Somebody writes lines into the map that must move nothing."""
        machine = self._world.machines[step.machine]
        if not self._world.up[step.machine] or not machine.peer.replicas.is_writable:
            return
        bad = source.choice(
            (
                "1.1.1/1.1.1/1.1.1 n.md",
                f"{MAP} map.md",
                f"{source.choice([*machine.peer.replica.coordinates(RANGE)] or [MAP])} ../up.md",
                "no line at all",
                f"{source.choice([*machine.peer.replica.coordinates(RANGE)] or [MAP])} zzz.md",
            )
        )
        machine.peer.replica.append(MAP, f"{bad}\n")

    def _do_rename_in_map(self, step: Step, source: Random) -> None:
        """Somebody gives a file another name by writing the map."""
        machine = self._world.machines[step.machine]
        if not self._world.up[step.machine] or not machine.peer.replicas.is_writable:
            return
        names = NameMap(RANGE, machine.peer.replica.get(MAP, ""))
        lines = sorted(names.lines(), key=lambda line: line.coordinate)
        if lines:
            line = source.choice(lines)
            new = Line(line.coordinate, source.choice(NAMES), line.marks)
            machine.peer.replica.splice(MAP, names.edits([line.coordinate], [new]))

    def _do_unmark(self, step: Step, source: Random) -> None:
        """Somebody says that the directory is the one to be served, whatever was in it before."""
        disk = self._world.machines[step.machine].disk
        if not disk.is_mounted("") and disk.find(MARKER_FILE) is not None:
            disk.put(MARKER_FILE, "")
            self._world.lines.met(self._world.tokens(step.machine))
            for number in range(MACHINES):
                for tokens in self._world.scroll_tokens(number).values():
                    self._world.lines.met(tokens)
