"""Taking back a writer: all that it did goes, what others did stands, once, wherever it is done."""

import re
from collections import Counter, deque
from dataclasses import replace
from random import Random
from typing import Final

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.control.bringing import Bringing
from phextsync.control.frames import Value
from phextsync.control.taking_back import TAKING_BACK
from phextsync.crdt import Scroll, client_clocks
from phextsync.errors import UpdateError
from phextsync.index import EMPTY_VERSION, Coordinate
from phextsync.inserts import IdSet, Inserted, encode_inserts
from phextsync.replica.changes import STAMP_CHARACTERS_MAX, writing_as
from phextsync.replica.clients import CLIENTS
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.past import FOREVER
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.testing import MemoryMesh, Partition
from phextsync.testing.mesh import PHEXT as MESH_PHEXT

_AT = Coordinate(*[1] * 9)
_PHEXT = "memory"


class _Node:
    """A node that tells each other node what it writes, in its order."""

    def __init__(self, number: int, seed: int) -> None:
        self.id = bytes([number]) * 16
        self.now_ms = 1000
        self.replicas = ReplicaSet(
            MemoryStore(),
            node_id=self.id,
            random=Random(f"{seed} {number}"),
            wall_time_ms=lambda: self.now_ms,
        )
        self.replicas.keep_history(FOREVER)
        self.told: dict[int, deque[NewUpdate]] = {}
        self.replicas.listen(ReplicaListener(on_update=self._tell))

    @property
    def replica(self) -> Replica:
        return self.replicas.open(_PHEXT)

    @property
    def text(self) -> str:
        return self.replica.get(_AT, "")

    def _tell(self, new: NewUpdate) -> None:
        if new.source is None:
            for queue in self.told.values():
                queue.append(new)


class _Mesh:
    """Nodes A, B and C; what one writes comes live to another, or by a comparison, or later."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes = [_Node(number, seed) for number in (1, 2, 3)]
        for a in self.nodes:
            a.told = {id(b): deque() for b in self.nodes if b is not a}

    def deliver(self, a: _Node, b: _Node, count: int | None = None) -> None:
        """What A wrote comes to B, each update as it was made."""
        queue = a.told[id(b)]
        for _ in range(len(queue) if count is None else min(count, len(queue))):
            new = queue.popleft()
            replica = b.replicas.open(new.phext)
            applied = replica.apply(new.coordinate, new.entry, 1)
            if not applied.covered:  # it builds on what a third node wrote
                queue.appendleft(new)
                return

    def compare(self, a: _Node, b: _Node) -> None:
        """What A has and B has not comes to B, without who wrote it and when."""
        for name in a.replicas.names():
            ours, theirs = a.replicas.open(name), b.replicas.open(name)
            for coordinate in sorted({*ours.uncommitted(), *ours.index}):
                update = ours.difference(coordinate, theirs.version(coordinate))
                if update is not None:
                    theirs.apply(coordinate, LogEntry(update, b"", 0), 1)

    def compare_all(self) -> None:
        for _ in range(2):
            for a in self.nodes:
                for b in self.nodes:
                    if a is not b:
                        self.compare(a, b)

    def deliver_all(self) -> None:
        while any(queue for node in self.nodes for queue in node.told.values()):
            for a in self.nodes:
                for b in self.nodes:
                    if a is not b:
                        self.deliver(a, b)


def _find(node: _Node, by: _Node, since_ms: int | None = None) -> TakenBack | None:
    return node.replica.past(_AT).taking_back(Writer(by.id), since_ms)


def _take_back(node: _Node, by: _Node, since_ms: int | None = None) -> TakenBack | None:
    found = _find(node, by, since_ms)
    if found is not None and found.update:
        node.replica.take_back(_AT, found.update)
    return found


# -- one scroll ----------------------------------------------------------------------------


def test_what_a_writer_put_in_goes_and_what_it_took_out_comes_back() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "milk and bread\neggs\nbutter\n"
    mesh.deliver_all()
    c.replica[_AT] = "milk and rye bread\neggs\nbutter\n"
    mesh.deliver_all()
    a.replica[_AT] = "wire money\nbutter from mars\n"
    mesh.deliver_all()
    c.replica.append(_AT, "honey\n")
    mesh.deliver_all()
    found = _take_back(b, a)
    assert b.text == "milk and rye bread\neggs\nbutter\nhoney\n"
    assert found is not None
    assert (found.removed, found.restored, found.unknown) == (21, 24, 0)
    assert (found.removed_line, found.restored_line) == ("wire money", "milk and rye bread")
    assert _find(b, a) is None
    mesh.deliver_all()
    assert a.text == c.text == b.text


def test_to_take_back_twice_at_two_nodes_is_to_do_it_once() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "one two three\n" * 3
    mesh.deliver_all()
    a.replica[_AT] = "one three\n"
    mesh.deliver_all()
    b.replica.append(_AT, "of b\n")
    c.replica.append(_AT, "of c\n")
    _take_back(b, a)
    _take_back(c, a)
    mesh.deliver_all()
    assert a.text == b.text == c.text
    assert sorted(b.text.splitlines()) == sorted(["one two three"] * 3 + ["of b", "of c"])
    assert (_find(b, a), _find(c, a)) == (None, None)


def test_a_word_in_a_line_that_goes_stays_apart_from_the_next_line() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "first\nlast\n"
    mesh.deliver_all()
    a.replica[_AT] = "first\nevil words\nmore evil\nlast\n"
    mesh.deliver_all()
    c.replica[_AT] = "first\nevil words not mine\nmore evil\nlast\n"
    mesh.deliver_all()
    _take_back(b, a)
    assert b.text == "first\n not mine\nlast\n"


def test_a_line_that_was_parted_is_whole_again() -> None:
    mesh = _Mesh()
    a, b, _ = mesh.nodes
    b.replica[_AT] = "one two\n"
    mesh.deliver_all()
    a.replica.insert(_AT, 4, "evil\n")
    mesh.deliver_all()
    b.replica.insert(_AT, 3, "!")
    _take_back(b, a)
    assert b.text == "one! two\n"


def test_a_line_that_was_parted_is_whole_again_beside_a_line_that_others_changed() -> None:
    mesh = _Mesh()
    a, b, _ = mesh.nodes
    b.replica[_AT] = "one two\nlast\n"
    mesh.deliver_all()
    a.replica.insert(_AT, 4, "\n")
    a.replica.insert(_AT, 9, "evil\n")
    mesh.deliver_all()
    assert b.text == "one \ntwo\nevil\nlast\n"
    b.replica.insert(_AT, 13, " mine")
    _take_back(b, a)
    assert b.text == "one two\n mine\nlast\n"


def test_what_was_put_back_of_a_writer_is_still_its_own() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "milk\n"
    mesh.deliver_all()
    a.replica.append(_AT, "evil\n")
    mesh.deliver_all()
    _take_back(b, a)
    mesh.deliver_all()
    _take_back(c, b, since_ms=1000)  # all that B did, its text and the taking back
    mesh.deliver_all()
    assert b.text == "evil\n"
    _take_back(b, a)
    assert b.text == ""
    assert _find(b, a) is None


def test_what_a_writer_did_before_a_time_stays() -> None:
    mesh = _Mesh()
    a, b, _ = mesh.nodes
    b.replica[_AT] = "milk\neggs\n"
    mesh.deliver_all()
    a.replica[_AT] = "milk\nold of a\n"
    mesh.deliver_all()
    a.now_ms = 2000
    a.replica[_AT] = "new of a\n"
    mesh.deliver_all()
    _take_back(b, a, since_ms=2000)
    assert b.text == "milk\nold of a\n"
    _take_back(b, a)
    assert b.text == "milk\neggs\n"


def test_what_is_not_known_is_counted_and_not_guessed() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "milk\neggs\n"
    mesh.deliver_all()
    a.replica[_AT] = "milk and evil\n"
    mesh.compare(a, c)  # who deleted is not told
    found = _find(c, a)
    assert found is not None
    assert (found.removed, found.restored, found.unknown) == (9, 0, 5)
    c.replica.take_back(_AT, found.update)
    assert c.text == "milk\n"


def test_where_no_history_leads_to_a_text_only_what_stands_is_taken_back() -> None:
    node, other = _Node(1, 0), _Node(2, 0)
    other.replica[_AT] = "of other\n"
    state = other.replica.difference(_AT, EMPTY_VERSION) or b""
    node.replica.apply(_AT, LogEntry(state, other.id, 5), 1)
    past = replace(node.replica.past(_AT), news=(), writers={})
    assert past.taking_back(Writer(other.id)) is None
    (client,) = client_clocks(state)
    found = replace(past, writers={client: Writer(other.id, "")}).taking_back(Writer(other.id))
    assert found is not None
    assert (found.removed, found.removed_line) == (9, "of other")


def test_an_update_that_writes_takes_nothing_back() -> None:
    node = _Node(1, 0)
    node.replica[_AT] = "text\n"
    update = Scroll(_AT, 5).edit("written\n")
    assert update is not None
    with pytest.raises(UpdateError, match="expected an update that takes back a writer"):
        node.replica.take_back(_AT, update)
    behind = encode_inserts(
        {0x1FFF << 40: [Inserted(0x1FFF << 40, 0, 1, "x", None, (77, 0))]}, IdSet()
    )
    with pytest.raises(UpdateError, match="found other taken back"):
        node.replica.take_back(_AT, behind)
    assert node.text == "text\n"


def test_taking_back_is_one_step_that_can_be_undone() -> None:
    mesh = _Mesh()
    a, b, _ = mesh.nodes
    b.replica[_AT] = "milk\neggs\n"
    mesh.deliver_all()
    a.replica[_AT] = "milk\nevil\n"
    mesh.deliver_all()
    with b.replica.history(_AT) as steps:
        _take_back(b, a)
        assert b.text == "milk\neggs\n"
        assert steps.undo()
        assert b.text == "milk\nevil\n"


def test_characters_beyond_the_first_plane_come_back_whole() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "caf\u00e9 \U0001f600\U0001f601 na\u00efve\r\nend"
    mesh.deliver_all()
    text = b.text
    a.replica[_AT] = "evil \U0001f608"
    mesh.deliver_all()
    _take_back(b, a)
    _take_back(c, a)
    mesh.deliver_all()
    assert a.text == b.text == c.text == text


def test_what_others_hold_is_taken_back_there_and_what_nobody_tells_is_named() -> None:
    mesh, places = MemoryMesh(1, 3), [Coordinate(library, *[1] * 8) for library in (1, 2, 3)]

    async def run() -> None:
        await mesh.run_until(1)
        holder, writer, guest = (mesh.node(i) for i in range(3))
        for place in places:
            holder.phext(MESH_PHEXT)[place] = "milk\n"
        await mesh.run_until(2)
        for place in places:
            writer.phext(MESH_PHEXT)[place] = "evil\n"
        await mesh.run_until(3)
        await guest.hold(["1.*"], MESH_PHEXT, copies=1)
        await mesh.run_until(6)
        by = [writer.replicas.node_id, None, None]
        rest: str | None = "*"
        found: list[TakenBack] = []
        while rest is not None:
            value = await guest.desk.wait(["taking_back", MESH_PHEXT, rest, *by])
            page = TAKING_BACK.answer.decode(value)
            found += page.found
            rest = page.rest
        assert [row.coordinate for row in found] == places
        for row in found:
            async with trio.open_nursery() as nursery:
                request: list[Value] = ["take_back", MESH_PHEXT, str(row.coordinate), row.update]
                Bringing(guest.desk).wait(nursery, request, lambda error: None)
            guest.desk.ask(request)
        await mesh.run_until(mesh.now + 5)
        assert [holder.phext(MESH_PHEXT)[place] for place in places] == ["milk\n"] * 3
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 5)
        value = await guest.desk.wait(["taking_back", MESH_PHEXT, "2.*", *by])
        page = TAKING_BACK.answer.decode(value)
        assert (page.found, page.rest) == ([], None)
        assert "2." in page.missing[0]

    mesh.run(run)


# -- one of several writers of a node ------------------------------------------------------


def test_one_writer_of_a_node_is_taken_back_and_the_others_are_not() -> None:
    mesh = _Mesh()
    a, b, c = mesh.nodes
    b.replica[_AT] = "milk\neggs\nbutter\n"
    mesh.deliver_all()
    with writing_as("good"):
        a.replica.append(_AT, "of good\n")
    with writing_as("evil"):
        a.replica.insert(_AT, 0, "of evil\n")
        start = a.text.index("eggs")
        a.replica.delete(_AT, start, start + len("eggs\n"))
    a.replica.append(_AT, "of a\n")
    mesh.deliver_all()
    mesh.compare_all()
    assert [(line.writer, line.label) for line in c.replica.blame(_AT)] == [
        (a.id, "evil"),
        (b.id, ""),
        (b.id, ""),
        (a.id, "good"),
        (a.id, ""),
    ]
    assert {row.labels for row in c.replica.log(_AT)} == {(), ("good",), ("evil",)}
    found = c.replica.past(_AT).taking_back(Writer(a.id, "evil"))
    assert found is not None
    c.replica.take_back(_AT, found.update)
    assert c.text == "milk\neggs\nbutter\nof good\nof a\n"


def test_a_writer_has_one_client_id_for_as_long_as_the_node_has_its_own() -> None:
    store = MemoryStore()
    texts = []
    for _ in range(3):
        replicas = ReplicaSet(store, node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 1)
        replica = replicas.open(_PHEXT)
        with writing_as("agent"):
            replica.append(_AT, "line\n")
        replica.append(_AT, "plain\n")
        replicas.commit()
        texts.append(replica[_AT])
        clients = client_clocks(replica.difference(_AT, EMPTY_VERSION) or b"")
        assert len(clients) == 2
        assert len(list(replicas.open(CLIENTS).scrolls())) == 2
        store = store.reopened()
    assert texts[-1] == "line\nplain\n" * 3


def test_a_writer_undoes_its_own_steps_and_they_stay_its_own() -> None:
    node = _Mesh().nodes[0]
    node.replica[_AT] = "start\n"
    with writing_as("agent"), node.replica.history(_AT) as steps:
        node.replica.append(_AT, "one\n")
        node.replica.append(_AT, "two\n")
        assert [line.label for line in node.replica.blame(_AT)] == ["", "agent", "agent"]
        assert steps.undo()
        assert steps.undo()
        assert (node.text, steps.can_undo) == ("start\n", False)
        assert steps.redo()
    assert node.text == "start\none\n"


def test_a_client_id_of_a_label_that_was_used_elsewhere_is_given_up() -> None:
    a, b, _ = _Mesh().nodes
    with writing_as("agent"):
        a.replica[_AT] = "one\n"
        (client,) = client_clocks(a.replica.difference(_AT, EMPTY_VERSION) or b"")
        copy = Scroll(_AT, client, [a.replica.difference(_AT, EMPTY_VERSION) or b""])
        update = copy.append("elsewhere\n")
        assert update is not None
        a.replica.apply(_AT, LogEntry(update, b.id, 5), 1)
        a.replica.append(_AT, "two\n")
    assert a.text == "one\nelsewhere\ntwo\n"
    assert len(client_clocks(a.replica.difference(_AT, EMPTY_VERSION) or b"")) == 2


def test_labels_that_are_none_stamp_nothing() -> None:
    node = _Mesh().nodes[0]
    for label in ("file:notes.md", "two\nlines", "x" * (STAMP_CHARACTERS_MAX + 1)):
        with writing_as(label):
            node.replica.append(_AT, "line\n")
    assert {line.label for line in node.replica.blame(_AT)} == {""}
    assert len(client_clocks(node.replica.difference(_AT, EMPTY_VERSION) or b"")) == 1


# -- many edits ----------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[abc]\d+x?")
_EDITS: Final = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["line", "word", "cut", "cut", "live", "late"]),
        st.randoms(use_true_random=False),
    ),
    max_size=24,
)


@settings(deadline=None)
@given(edits=_EDITS, seed=st.integers(0, 999))
def test_all_of_a_writer_goes_and_each_word_of_others_stands_once(
    edits: list[tuple[int, str, Random]], seed: int
) -> None:
    """A's updates come live to B; C may hear of them at any time. Both take A back at once."""
    mesh = _Mesh(seed)
    a, b, c = mesh.nodes
    numbers = iter(range(1000))
    written, cut_by_others = set[str](), set[str]()
    for who, what, random in edits:
        node = mesh.nodes[who]
        if what in ("live", "late"):
            other = mesh.nodes[(who + random.choice([1, 2])) % 3]
            if what == "live" or node is a:
                mesh.deliver(node, other, random.randint(1, 3))
            else:
                mesh.compare(node, other)
            continue
        text = node.text
        lines = text.splitlines(keepends=True)
        token = f"{'abc'[who]}{next(numbers)}"

        if what == "line":
            written |= {token, f"{token}x"}
            lines.insert(random.randint(0, len(lines)), f"{token} {token}x\n")
            node.replica[_AT] = "".join(lines)
        elif what == "word" and lines:
            written.add(token)
            blanks = [i for i, char in enumerate(text) if char.isspace()]
            node.replica.insert(_AT, random.choice(blanks), f" {token}")
        elif what == "cut" and lines:
            start = random.randrange(len(lines))
            stop = random.randint(start + 1, len(lines))
            if node is not a:
                cut_by_others |= {*_TOKEN.findall("".join(lines[start:stop]))}
            node.replica[_AT] = "".join(lines[:start] + lines[stop:])
    while a.told[id(b)]:  # some of it may build on what C wrote
        mesh.deliver(c, b)
        mesh.deliver(a, b)
    _take_back(b, a)
    _take_back(c, a)
    mesh.compare_all()
    assert a.text == b.text == c.text
    words = Counter(_TOKEN.findall(b.text))
    assert not [word for word in words if word.startswith("a")]
    for word in written:
        if not word.startswith("a") and word not in cut_by_others:
            assert words[word] == 1, (word, b.text)
