"""Put back: what nodes put back apart stands once when they meet, whatever each of them knew."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import pytest
import trio

from phextsync.crdt import Scroll, client_clocks
from phextsync.index import Coordinate
from phextsync.inserts import IdSet, Inserted, encode_inserts, utf16_units
from phextsync.node.node import Node
from phextsync.replica.changes import writing_as
from phextsync.replica.past import FOREVER
from phextsync.replica.put_back import (
    ACCEPTED,
    PUT_BACK,
    PutBack,
    is_again,
    puts_back,
    take_doubles,
)
from phextsync.replica.taking_back import Writer, take_back
from phextsync.store.contract import LogEntry
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT

_AT: Final = Coordinate(*[1] * 9)
_TOKEN: Final = re.compile(r"[abce]\d+")
_APART: Final = Partition(((0,), (1,), (2,)))


def _now_ms(node: Node) -> int:
    return node.replicas.author.now_ms()


def _take_back(node: Node, by: Writer, since_ms: int | None = None) -> None:
    found = node.phext(PHEXT).past(_AT).taking_back(by, since_ms)
    if found is not None and found.update:
        node.phext(PHEXT).take_back(_AT, found.update)


def _texts(mesh: MemoryMesh) -> set[str]:
    return {mesh.node(i).phext(PHEXT).get(_AT, "") for i in range(3)}


def _run(body: Callable[[MemoryMesh], Awaitable[None]], seed: int = 1) -> None:
    mesh = MemoryMesh(seed, 3)

    async def run() -> None:
        await mesh.run_until(1)
        for number in range(3):
            mesh.node(number).replicas.keep_history(FOREVER)
        await body(mesh)

    mesh.run(run)


async def _healed(mesh: MemoryMesh) -> None:
    mesh.apply(Repair())
    await mesh.run_until(mesh.now + 10)


# -- meshes --------------------------------------------------------------------------------


def test_what_is_put_back_from_two_times_stands_once() -> None:
    async def body(mesh: MemoryMesh) -> None:
        await _put_back_apart(mesh)
        await _healed(mesh)
        _check_once(mesh)

    _run(body)


def test_what_two_take_back_of_their_taking_back_stands_once() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b, c = (mesh.node(i) for i in range(3))
        b.phext(PHEXT)[_AT] = "milk\n"
        await mesh.run_until(2)
        a.phext(PHEXT).append(_AT, "one\n")
        await mesh.run_until(3)
        mesh.apply(Partition(((0, 1), (2,))))
        a.phext(PHEXT).append(_AT, "two\n")  # C does not hear of it
        await mesh.run_until(8)
        mesh.apply(_APART)
        since_ms = _now_ms(b)
        for node in (b, c):
            _take_back(node, Writer(a.replicas.node_id))
            assert node.phext(PHEXT)[_AT] == "milk\n"
            _take_back(node, Writer(node.replicas.node_id), since_ms)
        assert b.phext(PHEXT)[_AT] == "milk\none\ntwo\n"
        await _healed(mesh)
        assert _texts(mesh) == {"milk\none\ntwo\n"}

    _run(body)


def test_what_a_guard_and_a_person_put_back_stands_once() -> None:
    async def body(mesh: MemoryMesh) -> None:
        a, b, c = (mesh.node(i) for i in range(3))
        evil = Writer(a.replicas.node_id, "evil")
        b.phext(PHEXT)[_AT] = "milk\neggs\n"
        await mesh.run_until(2)
        with writing_as("evil"):
            a.phext(PHEXT)[_AT] = "milk\nold of evil\neggs\n"
            await mesh.run_until(4)
            a.phext(PHEXT)[_AT] = "evil\n"
        await mesh.run_until(5)
        mesh.apply(_APART)
        await mesh.run_until(9)
        a.desk.ask(["quarantine", PHEXT, "*", evil.node, evil.label, "new"])
        await mesh.run_until(10)
        mesh.apply(Crash(0))
        await mesh.run_until(11)
        mesh.apply(Restart(0))  # its guard may have been killed before it was done
        await mesh.run_until(12)
        assert "milk" in mesh.node(0).phext(PHEXT)[_AT]
        _take_back(b, evil)
        _take_back(c, evil)
        await _healed(mesh)
        (text,) = _texts(mesh)
        words = Counter(text.split())
        assert (words["milk"], words["eggs"], max(words.values())) == (1, 1, 1)

    _run(body)


def test_what_was_put_back_twice_before_all_ended_stands_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(mesh: MemoryMesh) -> None:
        await _put_back_apart(mesh)
        with monkeypatch.context() as patched:
            patched.setattr("phextsync.node.quarantine._looked", _never)
            await _healed(mesh)
            assert [text.count("milk") for text in _texts(mesh)] == [2]
            for number in range(3):
                mesh.apply(Crash(number))
            await mesh.run_until(mesh.now + 1)
        for number in range(3):
            mesh.apply(Restart(number))
        await mesh.run_until(mesh.now + 10)
        _check_once(mesh)

    _run(body)


def test_what_was_looked_at_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(mesh: MemoryMesh) -> None:
        await _put_back_apart(mesh)
        await _healed(mesh)
        _check_once(mesh)
        monkeypatch.setattr("phextsync.node.quarantine.take_doubles", pytest.fail)
        for number in range(3):
            mesh.apply(Restart(number))
        await mesh.run_until(mesh.now + 10)
        _check_once(mesh)

    _run(body)


async def _put_back_apart(mesh: MemoryMesh) -> None:
    """Let two machines, cut apart, put back the same from two times."""
    a, b, c = (mesh.node(i) for i in range(3))
    b.phext(PHEXT)[_AT] = "milk\neggs\n"
    await mesh.run_until(2)
    a.phext(PHEXT)[_AT] = "milk\nold of a\neggs\n"
    await mesh.run_until(4)
    since_ms = _now_ms(a)
    await mesh.run_until(5)
    a.phext(PHEXT)[_AT] = "evil\n"
    await mesh.run_until(6)
    mesh.apply(_APART)
    by = Writer(a.replicas.node_id)
    _take_back(b, by)
    _take_back(c, by, since_ms)


def _check_once(mesh: MemoryMesh) -> None:
    (text,) = _texts(mesh)
    assert Counter(text.split()) == Counter(["milk", "old", "of", "a", "eggs"])


async def _never(*_: object) -> None:
    """Look at nothing, as a guard that is about to."""
    await trio.sleep_forever()


class _Trial:
    """All write; then some hear of more than others; then each by itself takes back what A did, or
    what it took back itself, from some time on; and so on."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.written = 0

    async def body(self, mesh: MemoryMesh) -> None:
        random, times = self.random, [_now_ms(mesh.node(0))]
        for _ in range(4):
            for number in (1, 2, 0, *random.choices((0, 0, 1, 2), k=4)):
                self._change(mesh.node(number), "abc"[number])
                await mesh.run_until(mesh.now + 0.3)
                times.append(_now_ms(mesh.node(0)))
            mesh.apply(Partition(random.choice((((0, 1), (2,)), ((0, 2), (1,))))))
            await mesh.run_until(mesh.now + 4)
            self._change(mesh.node(0), "a")
            await mesh.run_until(mesh.now + 1)
            mesh.apply(_APART)
            for number in random.choices((0, 1, 2), k=6):
                node = mesh.node(number)
                by = mesh.node(random.choice((0, number))).replicas.node_id
                _take_back(node, Writer(by), random.choice((None, *times[-3:])))
                await mesh.run_until(mesh.now + 1)
                times.append(_now_ms(node))
            await _healed(mesh)
            assert len(_texts(mesh)) == 1, _texts(mesh)
            words = Counter(_TOKEN.findall(_texts(mesh).pop()))
            assert not words or max(words.values()) == 1, words

    def _change(self, node: Node, kind: str) -> None:
        replica = node.phext(PHEXT)
        text = replica.get(_AT, "")
        lines = text.splitlines(keepends=True)
        token = f"{kind}{self.written}"
        self.written += 1
        what = self.random.choice(("line", "word", "cut"))
        if what == "line" or not lines:
            lines.insert(self.random.randint(0, len(lines)), f"{token}\n")
        elif what == "word":
            line = self.random.randrange(len(lines))
            lines[line] = f"{token} {lines[line]}"
        else:
            start = self.random.randrange(len(lines))
            del lines[start : start + self.random.randint(1, 3)]
        replica[_AT] = "".join(lines)


@pytest.mark.parametrize("seed", [0, 1, 40, 48, 54])
def test_through_cuts_nothing_that_is_put_back_stands_twice(seed: int) -> None:
    _run(_Trial(seed).body, seed)


# -- one scroll ----------------------------------------------------------------------------


def _copy(client: int, text: str, of: int, deleted: IdSet | None = None) -> bytes:
    """Return an update that puts back a text that was made of what client 7 wrote from `of` on."""
    run = Inserted(client, 0, utf16_units(text), text, None, (7, of))
    return encode_inserts({client: [run]}, deleted or IdSet())


def _scroll(*updates: bytes) -> Scroll:
    scroll = Scroll(_AT, 7)
    scroll.insert(0, "one \U0001f600 two\n")
    for update in (scroll.clear(), *updates):
        assert scroll.apply(update or b"").covered
    return scroll


def _without_doubles(scroll: Scroll) -> str:
    update = take_doubles(scroll.state())
    if update is not None:
        assert puts_back(scroll.state())
        assert scroll.apply(update).changed
        assert take_doubles(scroll.state()) is None
    return scroll.text


def test_of_copies_that_overlap_each_character_stands_once() -> None:
    first, other = _copy(PUT_BACK, "one \U0001f600 t", 0), _copy(PUT_BACK + 1, "\U0001f600 two", 4)
    scroll = _scroll(first, other)
    assert Counter(_without_doubles(scroll)) == Counter("one \U0001f600 two")


def test_what_was_accepted_stands_before_what_was_put_back() -> None:
    scroll = _scroll(_copy(PUT_BACK, "one", 0), _copy(ACCEPTED + 5, "one two", 0))
    assert _without_doubles(scroll).strip() == "one two"


def test_a_copy_whose_other_one_was_deleted_stands() -> None:
    gone = IdSet()
    gone.add(PUT_BACK, 0, 3)
    scroll = _scroll(_copy(PUT_BACK, "one", 0, gone), _copy(PUT_BACK + 1, "one", 0))
    assert _without_doubles(scroll) == "one"
    assert take_doubles(scroll.state()) is None


def test_copies_of_other_characters_or_that_say_other_than_they_are_stand() -> None:
    scroll = _scroll(_copy(PUT_BACK, "one", 0), _copy(PUT_BACK + 1, "two", 7))
    assert sorted(_without_doubles(scroll)) == sorted("onetwo")
    scroll = _scroll(_copy(PUT_BACK, "one", 0), _copy(PUT_BACK + 1, "two", 0))
    assert sorted(_without_doubles(scroll)) == sorted("onetwo")


def test_a_copy_of_a_copy_is_one_of_the_first() -> None:
    gone = IdSet()
    gone.add(PUT_BACK, 0, 3)
    again = Inserted(PUT_BACK + 2, 0, 3, "one", None, (PUT_BACK, 0))
    scroll = _scroll(
        _copy(PUT_BACK, "one", 0, gone),
        _copy(PUT_BACK + 1, "one", 0),
        encode_inserts({PUT_BACK + 2: [again]}, IdSet()),
    )
    assert _without_doubles(scroll) == "one"


def test_what_is_known_with_its_text_and_without_is_one() -> None:
    run = Inserted(PUT_BACK, 0, 3, "one", None, (7, 4))
    made = PutBack([run, run._replace(text=None), run], is_again)
    assert [*made.parts(PUT_BACK, 1, 3)] == [(1, 2, (7, 5))]


def test_what_stands_nowhere_hides_nothing_that_stands_somewhere() -> None:
    nowhere = Inserted(PUT_BACK, 0, 1, "x", None, None)
    run = Inserted(PUT_BACK + 1, 0, 3, "one", None, (7, 4))
    made = PutBack([nowhere, run], is_again)
    assert [*made.parts(PUT_BACK + 1, 0, 3)] == [(0, 3, (7, 4))]


def test_what_is_put_back_in_two_scrolls_has_two_client_ids() -> None:
    """Though their characters have the same ids: a label is that of a client id, wherever it is."""
    clients: list[int] = []
    for place in (_AT, Coordinate(*[2] * 9)):
        scroll = Scroll(place, 5)
        scroll.insert(0, "milk")
        base, entries = LogEntry(scroll.state(), b"", 1), list[LogEntry]()
        thief = Scroll(place, 3, [scroll.state()])
        _log(scroll, entries, b"thief", thief.delete(0, 4))
        found = take_back(scroll, base, entries, Writer(b"thief"), None, lambda _: None)
        assert found is not None
        clients += client_clocks(found.update)
    assert len({*clients}) == 2


def test_a_word_that_two_wrote_is_told_from_what_follows_the_first() -> None:
    """Whichever of the two has the lower client id."""
    for first, second in ((5, 9), (9, 5)):
        scroll = Scroll(_AT, first)
        scroll.insert(0, "mi\n")
        other = Scroll(_AT, second, [scroll.state()])
        other.insert(2, "lk")
        scroll.apply(other.state())
        base = LogEntry(scroll.state(), b"", 1)
        entries: list[LogEntry] = []
        for start, stop in ((0, 4), (4, 5)):
            thief = Scroll(_AT, 3, [scroll.state()])
            _log(scroll, entries, b"thief", thief.delete(start, stop))
            found = take_back(scroll, base, entries, Writer(b"thief"), None, lambda _: None)
            assert found is not None
            _log(scroll, entries, b"other", found.update)
            assert scroll.text == "milk\n"


def _log(scroll: Scroll, entries: list[LogEntry], origin: bytes, update: bytes | None) -> None:
    assert update is not None
    scroll.apply(update)
    entries.append(LogEntry(update, origin, 5))
