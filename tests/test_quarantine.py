"""Quarantine: what a writer puts in waits on all nodes alike, and comes back once."""

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from itertools import product
from random import Random
from typing import Final

import pytest

from phextsync.control.quarantine import (
    HELD_MAX,
    QUARANTINE,
    QUARANTINED,
    WAITING,
    Quarantined,
    place_of,
    read_rules,
)
from phextsync.errors import PermissionDeniedError, PhextsyncError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import Node
from phextsync.replica.changes import writing_as
from phextsync.replica.past import FOREVER
from phextsync.replica.replica import Replica
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT
from phextsync.trust.permissions import UNRESTRICTED
from tests.troubles import mend

_AT: Final = Coordinate(*[1] * 9)
_TOKEN: Final = re.compile(r"[abce]\d+")


def _hold(node: Node, by: Writer, how: str = "new", range_: str = "*") -> None:
    node.desk.ask(["quarantine", PHEXT, range_, by.node, by.label, how])


async def _waiting(node: Node, by: Writer, range_: str = "*") -> list[TakenBack]:
    value = await node.desk.wait(["waiting", PHEXT, range_, by.node, by.label])
    return WAITING.answer.decode(value).found


async def _accept(node: Node, by: Writer) -> int:
    rows = await _waiting(node, by)
    for row in rows:
        _take(node, row)
    return len(rows)


def _take(node: Node, row: TakenBack) -> None:
    node.desk.ask(["take_back", PHEXT, str(row.coordinate), row.update])


def _write(node: Node, label: str, edit: Callable[[Replica], object]) -> None:
    with writing_as(label):
        edit(node.phext(PHEXT))


def _insert(line: str, memory: Replica) -> None:
    memory.insert(_AT, 6, line)


def _texts(mesh: MemoryMesh, count: int = 3) -> set[str]:
    return {mesh.node(i).phext(PHEXT).get(_AT, "") for i in range(count)}


def _run(body: Callable[[MemoryMesh], Awaitable[None]]) -> None:
    mesh = MemoryMesh(1, 3)

    async def run() -> None:
        await mesh.run_until(1)
        await body(mesh)

    mesh.run(run)


def test_what_comes_waits_what_stood_stands_and_what_was_replaced_is_there_again() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b, c = (mesh.node(i) for i in range(3))
        evil = Writer(a.replicas.node_id, "evil")
        b.phext(PHEXT)[_AT] = "milk and bread\neggs\n"
        await mesh.run_until(2)
        _write(a, "evil", lambda memory: memory.append(_AT, "old of evil\n"))
        await mesh.run_until(3)
        _hold(b, evil)
        await mesh.run_until(4)
        stood = "milk and bread\neggs\nold of evil\n"
        assert _texts(mesh) == {stood}
        assert QUARANTINED.answer.decode(c.desk.ask(["quarantined", PHEXT])) == [
            Quarantined(CoordinateRange.parse("*"), evil)
        ]
        _write(a, "evil", lambda memory: memory.edit(_AT, "wire money and bread\nold of evil\n"))
        _write(a, "good", lambda memory: memory.append(_AT, "of good\n"))
        await mesh.run_until(6)
        assert _texts(mesh) == {stood + "of good\n"}
        (row,) = await _waiting(a, evil)
        assert (row.removed, row.restored, row.unknown) == (0, 11, 0)
        _take(b, row)
        await mesh.run_until(mesh.now + 2)
        assert _texts(mesh) == {"milk wire money and bread\neggs\nold of evil\nof good\n"}

    _run(body)


def test_what_waits_comes_back_once_though_two_accept_it() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b, c = (mesh.node(i) for i in range(3))
        evil = Writer(a.replicas.node_id, "evil")
        b.phext(PHEXT)[_AT] = "first\nlast\n"
        _hold(b, evil)
        await mesh.run_until(3)
        for line in ("one\n", "two\n"):
            _write(a, "evil", partial(_insert, line))
            await mesh.run_until(mesh.now + 1)
        assert _texts(mesh) == {"first\nlast\n"}
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 4)
        assert await _accept(b, evil) == 1
        assert await _accept(c, evil) == 1
        mesh.apply(Repair())
        await mesh.run_until(mesh.now + 8)
        assert _texts(mesh) == {"first\none\ntwo\nlast\n"}
        assert await _accept(c, evil) == 0
        c.phext(PHEXT)[_AT] = "first\none\nlast\n"
        await mesh.run_until(mesh.now + 2)
        assert await _accept(b, evil) == 0  # who deletes what was accepted has deleted it
        assert _texts(mesh) == {"first\none\nlast\n"}

    _run(body)


def test_the_writer_neither_accepts_nor_ends_it_and_others_do() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b = mesh.node(0), mesh.node(1)
        evil = Writer(a.replicas.node_id, "evil")
        _hold(b, evil)
        await mesh.run_until(3)
        _write(a, "evil", lambda memory: memory.append(_AT, "one\n"))
        await mesh.run_until(5)
        (row,) = await _waiting(a, evil)
        accept = ["as", "evil", "take_back", PHEXT, str(row.coordinate), row.update]
        end = ["as", "evil", "quarantine", PHEXT, "*", evil.node, evil.label, "end"]
        for request in (accept, end):
            with pytest.raises(PermissionDeniedError, match="of evil waits itself"):
                a.desk.ask([*request])
        _hold(b, evil, "end")
        await mesh.run_until(mesh.now + 2)
        _write(a, "evil", lambda memory: memory.append(_AT, "two\n"))
        await mesh.run_until(mesh.now + 2)
        assert _texts(mesh) == {"two\n"}
        _take(a, row)
        await mesh.run_until(mesh.now + 2)
        assert sorted(a.phext(PHEXT)[_AT].split()) == ["one", "two"]

    _run(body)


def test_a_machine_that_may_not_write_leaves_it_to_those_that_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, c = mesh.node(0), mesh.node(2)
        evil = Writer(a.replicas.node_id, "evil")
        mesh.apply(Partition(((0, 1), (2,))))
        _hold(c, evil)
        _write(a, "evil", lambda memory: memory.append(_AT, "one\n"))
        await mesh.run_until(3)
        c.replicas.permissions = replace(UNRESTRICTED, write={})
        mesh.apply(Repair())
        await mesh.run_until(10)
        assert _texts(mesh) == {""}
        assert (await _waiting(a, evil))[0].restored_line == "one"

    _run(body)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_machines_of_which_all_waits_take_part_and_nobody_goes_round_in_circles() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b, c = (mesh.node(i) for i in range(3))
        b.phext(PHEXT)[_AT] = "of b\n"
        await mesh.run_until(2)
        for node in (a, c):
            _hold(b, Writer(node.replicas.node_id), "all")
        await mesh.run_until(4)
        a.phext(PHEXT).append(_AT, "of a\n")
        c.phext(PHEXT).append(_AT, "of c\n")
        await mesh.run_until(6)
        assert _texts(mesh) == {"of b\n"}
        c.phext(PHEXT).append(_AT, "of c again\n")
        a.phext(PHEXT)[_AT] = "of a alone\n"
        await mesh.run_until(8)
        assert len(_texts(mesh)) == 1
        assert "a" not in _texts(mesh).pop()
        before = a.phext(PHEXT).version(_AT)
        await mesh.run_until(60)
        assert a.phext(PHEXT).version(_AT) == before

    _run(body)


def test_what_stands_waits_too_if_that_is_asked_for() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b = mesh.node(0), mesh.node(1)
        evil = Writer(a.replicas.node_id, "evil")
        b.phext(PHEXT)[_AT] = "of b\n"
        await mesh.run_until(2)
        _write(a, "evil", lambda memory: memory.append(_AT, "evil\n"))
        await mesh.run_until(3)
        _hold(b, evil, "all", "2.*")
        await mesh.run_until(5)
        assert _texts(mesh) == {"of b\nevil\n"}
        _hold(b, evil, "all", "1.*")
        await mesh.run_until(7)
        assert _texts(mesh) == {"of b\n"}
        assert await _accept(mesh.node(2), evil) == 1
        await mesh.run_until(mesh.now + 2)
        assert _texts(mesh) == {"of b\nevil\n"}

    _run(body)


def test_lines_that_cannot_be_read_do_not_count() -> None:
    node = "ab" * 16
    rules = read_rules(
        f"phext notes\nhold 1.* {node}/two words\nhold 1.*\nhold x {node}\nhold * ab\n"
        "stands 1.1.1/1.1.1/1.1.1 7 5\nstands 1.1.1/1.1.1/1.1.1 7 3\nstands 1 2\nwords\n"
    )
    assert [*rules.held] == [
        Quarantined(CoordinateRange.parse("1.*"), Writer(bytes.fromhex(node), "two words"))
    ]
    assert rules.clocks == {_AT: {7: 5}}
    assert read_rules(rules.to_text()) == rules
    assert read_rules(f"hold .. {node}") == read_rules(f"hold * {node}")


def test_rules_of_a_peer_that_cannot_be_end_no_node_and_make_no_phext() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b = mesh.node(0), mesh.node(1)
        evil = Writer(a.replicas.node_id, "evil")
        hold = f"{evil.node.hex()}/{evil.label}\n"
        ranges = [
            CoordinateRange.parse(f"1.1.1/1.1.1/1.{1 + i // 999}.{1 + i % 999}")
            for i in range(1200)
        ]
        rules = b.replicas.open(QUARANTINE)
        for name in ("", "a/b", ".clients", "absent"):
            rules[place_of(name)] = f"phext {name}\nhold * {hold}"
        rules[place_of("many")] = "phext many\n" + "".join(f"hold {each} {hold}" for each in ranges)
        await mesh.run_until(4)
        _hold(b, evil)
        await mesh.run_until(5)
        assert [node.replicas.names() for node in (a, b)] == [[".clients", QUARANTINE, PHEXT]] * 2
        with writing_as("evil"):
            for name in (PHEXT, "absent"):
                a.replicas.open(name)[_AT] = "evil\n"
        await mesh.run_until(7)
        for name, node in product((PHEXT, "absent"), (a, b)):
            assert _AT not in node.replicas.open(name)
        (row,) = await _waiting(b, evil)
        assert row.restored == 5

    _run(body)


def test_another_range_than_the_rules_have_room_for_is_refused() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node, evil = mesh.node(0), Writer(mesh.node(0).replicas.node_id, "evil")
        for series in range(1, HELD_MAX + 1):
            _hold(node, evil, "all", f"1.1.{series}/1.1.1/1.1.1")
        _hold(node, evil, "all", "1.1.1/1.1.1/1.1.1")
        with pytest.raises(PhextsyncError, match=f"at most {HELD_MAX} ranges .*: take a wider one"):
            _hold(node, evil, "all", "1.1.999/1.1.1/1.1.1")
        _hold(node, evil, "end", "1.1.1/1.1.1/1.1.1")
        _hold(node, evil, "all", "1.1.999/1.1.1/1.1.1")

    _run(body)


# -- many edits ----------------------------------------------------------------------------


class _Trial:
    """Three machines through cuts and kills, of which one has an agent whose work waits."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mesh = MemoryMesh(seed, 3)
        self.written: set[str] = set()  # by others
        self.cut: set[str] = set()  # by others
        self.evil: set[str] = set()
        self.stood: set[str] = set()

    def run(self) -> None:
        self.mesh.run(self._body)

    async def _body(self) -> None:
        mesh = self.mesh
        await mesh.run_until(1)
        self.by = Writer(mesh.node(0).replicas.node_id, "evil")
        mesh.node(1).replicas.keep_history(FOREVER)
        for number in range(3):
            self._change(number, "line")
        self._change(0, "evil line")
        self.stood = {*self.evil}
        await mesh.run_until(4)
        _hold(mesh.node(1), self.by)
        await mesh.run_until(8)
        for _ in range(40):
            await self._step()
            await mesh.run_until(mesh.now + self.random.choice((0.0, 0.02, 0.3, 2.0)))
        mend(mesh)
        await mesh.run_until(mesh.now + 30)
        self._check(accepted=set())
        waiting = await _waiting(mesh.node(0), self.by)
        accepted = {*self.evil} if waiting else set()
        for row in waiting:
            for number in self.random.sample(range(1, 3), self.random.randint(1, 2)):
                _take(mesh.node(number), row)
        await mesh.run_until(mesh.now + 10)
        self._check(accepted=accepted)
        assert not await _waiting(mesh.node(0), self.by)

    async def _step(self) -> None:
        mesh, number = self.mesh, self.random.randrange(3)
        match self.random.randrange(10):
            case 0:
                groups = ((0, 1), (2,)), ((0,), (1, 2)), ((0, 2), (1,)), ((0,), (1,), (2,))
                mesh.apply(Partition(self.random.choice(groups)))
            case 1:
                mesh.apply(Repair())
            case 2 if mesh.is_up(number):
                mesh.apply(Crash(number))
                await mesh.run_until(mesh.now + self.random.uniform(0.5, 3))
                mesh.apply(Restart(number))
                await mesh.run_until(mesh.now + 1)
            case 3 | 4 | 5 if mesh.is_up(0):
                self._change(0, self.random.choice(("evil line", "evil word", "evil cut")))
            case _ if mesh.is_up(number):
                self._change(number, self.random.choice(("line", "word", "cut")))
                await mesh.run_until(mesh.now + 0.2)  # it is on the disk

    def _change(self, number: int, what: str) -> None:
        is_evil, what = what.startswith("evil "), what.removeprefix("evil ")
        kind = "e" if is_evil else "abc"[number]
        token = f"{kind}{len(self.written) + len(self.evil)}"
        replica = self.mesh.node(number).phext(PHEXT)
        text = replica.get(_AT, "")
        lines = text.splitlines(keepends=True)
        with writing_as("evil" if is_evil else ""):
            if what == "line" or not lines:
                lines.insert(self.random.randint(0, len(lines)), f"{token}\n")
                replica[_AT] = "".join(lines)
            elif what == "word":
                blanks = [i for i, char in enumerate(text) if char.isspace()]
                replica.insert(_AT, self.random.choice(blanks), f" {token}")
            else:
                start = self.random.randrange(len(lines))
                gone = {*_TOKEN.findall(lines.pop(start))}
                replica[_AT] = "".join(lines)
                if not is_evil:
                    self.cut |= gone
                return
        (self.evil if is_evil else self.written).add(token)

    def _check(self, accepted: set[str]) -> None:
        texts = [self.mesh.node(number).phext(PHEXT).get(_AT, "") for number in range(3)]
        assert len({*texts}) == 1, texts
        words = Counter(_TOKEN.findall(texts[0]))
        for word in self.written - self.cut:
            assert words[word] == 1, (word, texts[0])
        for word in self.evil - self.stood:
            assert words[word] <= (word in accepted), (word, texts[0])
        for word in words:
            assert words[word] == 1, (word, texts[0])


@pytest.mark.parametrize("seed", range(6))
def test_through_cuts_and_kills_nothing_of_the_writer_stands_and_all_of_others_once(
    seed: int,
) -> None:
    _Trial(seed).run()
