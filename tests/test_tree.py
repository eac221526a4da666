"""The broadcast tree: everybody hears everything, once, and what breaks mends itself."""

from collections import deque
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.overlay import spanning_tree
from phextsync.ranges import subtract
from phextsync.sync.branch import Branch, update_id
from phextsync.sync.clock import Clock
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Graft, Have, Message, Prune, ScrollId, UpdateId
from phextsync.sync.timing import Timing
from phextsync.sync.tree import Tree
from phextsync.testing import Crash, SetHeld, World
from phextsync.trust.permissions import Permissions

_A, _B = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2))
_SCROLL: ScrollId = ("memory", _A)
_TICK_S = 0.01


class _Node:
    """A tree whose links have the numbers of the nodes at their other ends."""

    def __init__(self, mesh: "_Mesh", number: int) -> None:
        self.mesh = mesh
        self.number = number
        self.clock = Clock(lambda due: None)
        self.tree = Tree(self.clock, Timing(), Limits(), Random(number))
        self.tree.is_grown = True

    def link(self, peer: int) -> None:
        def say(message: Message) -> None:
            self.mesh.send(self.number, peer, message)

        self.tree.join(peer, Branch(bytes([peer]), say, left_max=1000))

    def pass_on(self, update: UpdateId, source: int | None) -> None:
        self.tree.keep(update, _SCROLL, 1, source)
        for peer, branch in self.tree.branches.items():
            if peer != source and branch.is_eager:
                self.mesh.send(self.number, peer, update)
            elif peer != source:
                branch.leave(update, _SCROLL)

    def take(self, source: int, message: Message | UpdateId) -> None:
        match message:
            case bytes(update):
                self.mesh.received += 1
                is_new = not self.tree.has(update)
                if not is_new:
                    self.mesh.redundant += 1
                    self.tree.doubled(source, update)
                self.tree.came(source, update)
                if is_new:
                    self.pass_on(update, source)
            case Have(ids):
                self.tree.hear(source, ids)
            case Prune():
                self.tree.pruned(source)
            case Graft(ids):
                for update in ids:
                    if self.tree.grafted(source, [update]):
                        self.mesh.send(self.number, source, update)

    def tick(self, now: float) -> None:
        self.clock.advance(now)
        self.tree.committing()
        self.tree.committed()
        for peer in self.tree.tick(now)[0]:
            self.mesh.send(self.number, peer, self.tree.branches[peer].next_have())


class _Mesh:
    """Nodes whose messages arrive in the order in which they are sent, at once or as time passes.
    One that is killed says nothing; the others are told only when somebody says so."""

    def __init__(self, count: int, pairs: Iterable[tuple[int, int]]) -> None:
        self.now = 0.0
        self.received = self.redundant = 0
        self.under_way: deque[tuple[int, int, Message | UpdateId]] = deque()
        self.nodes = [_Node(self, number) for number in range(count)]
        self.alive = dict.fromkeys(range(count))
        self.updates: list[UpdateId] = []
        for one, other in pairs:
            self.nodes[one].link(other)
            self.nodes[other].link(one)

    def send(self, source: int, target: int, message: Message | UpdateId) -> None:
        self.under_way.append((source, target, message))

    def publish(self, number: int) -> None:
        update = len(self.updates).to_bytes(8, "big")
        self.updates.append(update)
        self.nodes[number].pass_on(update, None)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / _TICK_S)):
            self.now += _TICK_S
            for number in self.alive:
                self.nodes[number].tick(self.now)
            while self.under_way:
                source, target, message = self.under_way.popleft()
                if source in self.alive and target in self.alive:
                    self.nodes[target].take(source, message)

    def kill(self, number: int, *, is_noticed: bool) -> None:
        del self.alive[number]
        if is_noticed:
            for node in self.nodes:
                node.tree.lose(number)

    def missing(self) -> list[tuple[int, UpdateId]]:
        return [
            (number, update)
            for number in self.alive
            for update in self.updates
            if not self.nodes[number].tree.has(update)
        ]

    def eager(self) -> set[tuple[int, int]]:
        return {
            (number, peer)
            for number in self.alive
            for peer, branch in self.nodes[number].tree.branches.items()
            if branch.is_eager and peer in self.alive
        }


def _rings(count: int, rings: int, seed: int) -> set[tuple[int, int]]:
    """Return the pairs of so many random rings through all nodes."""
    random, pairs = Random(seed), set()
    for _ in range(rings):
        ring = random.sample(range(count), count)
        pairs |= {
            (min(a, b), max(a, b)) for a, b in zip(ring, ring[1:] + ring[:1], strict=True) if a != b
        }
    return pairs


@given(st.integers(2, 24), st.integers(1, 4), st.integers(0, 99), st.data())
def test_links_become_a_tree_in_which_nothing_comes_twice(
    count: int, rings: int, seed: int, data: st.DataObject
) -> None:
    mesh = _Mesh(count, _rings(count, rings, seed))
    for _ in range(4):
        mesh.publish(data.draw(st.integers(0, count - 1)))
        mesh.run(1)
    assert mesh.missing() == []
    assert len(mesh.eager()) == 2 * (count - 1)
    mesh.received = mesh.redundant = 0
    mesh.publish(data.draw(st.integers(0, count - 1)))
    mesh.run(1)
    assert (mesh.missing(), mesh.received, mesh.redundant) == ([], count - 1, 0)


@given(st.integers(3, 24), st.integers(2, 4), st.integers(0, 99), st.data())
def test_everybody_hears_everything_whatever_is_said_at_a_time_and_whoever_dies(
    count: int, rings: int, seed: int, data: st.DataObject
) -> None:
    mesh = _Mesh(count, _rings(count, rings, seed))
    for _ in range(data.draw(st.integers(1, 12))):
        mesh.publish(data.draw(st.sampled_from(list(mesh.alive))))
        mesh.run(data.draw(st.sampled_from([0, 0.01, 0.5])))
    mesh.run(3)
    assert mesh.missing() == []
    victim, is_noticed = data.draw(st.integers(0, count - 1)), data.draw(st.booleans())
    mesh.kill(victim, is_noticed=is_noticed)  # two rings hold together without one node
    mesh.publish(data.draw(st.sampled_from(list(mesh.alive))))
    mesh.run(3)
    assert mesh.missing() == []


def test_a_node_that_lost_its_branch_notices_within_a_second() -> None:
    pairs = {(0, 1), (1, 2), (2, 3), (0, 3)}
    mesh = _Mesh(4, pairs)
    mesh.publish(0)
    mesh.run(1)
    assert len(mesh.eager()) == 6
    victim = next(n for n in (1, 3) if len([pair for pair in mesh.eager() if n in pair]) == 4)
    mesh.kill(victim, is_noticed=False)
    mesh.publish(0)
    mesh.run(1)
    assert mesh.missing() == []


def test_where_all_are_linked_nothing_is_pruned_and_what_was_is_grafted_again() -> None:
    said: list[Message] = []
    branch = Branch(b"p", said.append, left_max=9)
    tree = Tree(Clock(lambda due: None), Timing(), Limits(), Random(1))
    tree.join(1, branch)
    assert not tree.is_used
    tree.keep(b"u", _SCROLL, 1)
    tree.doubled(1, b"u")
    assert (said, branch.is_eager) == ([], True)
    tree.is_grown = True
    tree.doubled(1, b"u")
    tree.doubled(1, b"u")
    assert (said, branch.is_eager) == ([Prune()], False)
    tree.is_grown = False
    assert (said, branch.is_eager) == ([Prune(), Graft(())], True)
    tree.pruned(1)  # by a peer that is not linked with all
    assert tree.is_used


def test_a_peer_that_was_pruned_pushes_again_when_its_link_is_chosen() -> None:
    said: list[Message] = []
    branch = Branch(b"p", said.append, left_max=9)
    tree = Tree(Clock(lambda due: None), Timing(), Limits(), Random(1))
    tree.is_grown = True
    tree.join(1, branch)
    tree.follow(frozenset())  # of those that this node knows so far
    tree.keep(b"u", _SCROLL, 1)
    tree.doubled(1, b"u")
    assert said == [Prune()]
    tree.follow(frozenset({b"q"}))  # it is still not
    assert said == [Prune()]
    tree.follow(frozenset({b"p"}))
    assert (said, branch.is_eager) == ([Prune(), Graft(())], True)
    tree.follow(frozenset({b"p", b"q"}))
    assert said == [Prune(), Graft(())]


def test_what_was_told_and_never_sent_is_asked_for_elsewhere_and_then_given_up() -> None:
    said: dict[int, list[Message]] = {1: [], 2: []}
    clock = Clock(lambda due: None)
    tree = Tree(clock, Timing(graft_delay_s=0.1), Limits(), Random(1))
    tree.is_grown = True
    for link in said:
        tree.join(link, Branch(b"p", said[link].append, left_max=9))
    tree.hear(1, [b"1" * 8])
    tree.hear(2, [b"1" * 8])
    tree.hear(2, [b"2" * 8])
    assert 0.1 <= tree.deadline <= 0.4
    assert tree.tick(0.41) == ([], [])
    assert said == {1: [Graft((b"1" * 8,))], 2: [Graft((b"2" * 8,))]}
    assert tree.tick(0.52) == ([], [2])
    assert said[2][1:] == [Graft((b"1" * 8,))]
    assert tree.tick(0.63) == ([], [2])
    assert tree.deadline == float("inf")


def test_of_what_is_missing_no_more_is_noted_than_the_limit() -> None:
    tree = Tree(Clock(lambda due: None), Timing(), Limits(update_ids_max=3), Random(1))
    tree.join(1, Branch(b"p", lambda message: None, left_max=9))
    for i in range(9):
        tree.hear(1, [bytes([i]) * 8])
        tree.keep(bytes([100 + i]) * 8, _SCROLL, i)
    assert [i for i in range(9) if tree.has(bytes([100 + i]) * 8)] == [6, 7, 8]
    assert tree.grafted(1, [bytes([100 + i]) * 8 for i in range(9)]) == [
        (_SCROLL, 6, None),
        (_SCROLL, 7, None),
        (_SCROLL, 8, None),
    ]
    tree.tick(99)  # three are asked for, and then given up
    tree.tick(199)
    assert tree.deadline == float("inf")


def test_an_id_is_of_phext_coordinate_and_update() -> None:
    ids = {update_id(*of) for of in (("a", _A, b"1"), ("a", _B, b"1"), ("b", _A, b"1"))}
    ids.add(update_id("a", _A, b"2"))
    assert len(ids) == 4
    assert update_id("a", _A, b"1") in ids


# -- branches --------------------------------------------------------------------------------


def _branch(left_max: int = 9) -> Branch:
    return Branch(b"p", lambda message: None, left_max=left_max)


def test_only_what_is_on_our_disk_is_told_and_not_what_the_peer_has() -> None:
    branch = _branch()
    for update in (b"1", b"2", b"3"):
        branch.leave(update, _SCROLL)
    for update in (b"1", b"2", b"4"):
        branch.is_durable(update)
    branch.hear(b"2")
    assert branch.next_have() == Have((b"1",))
    assert list(branch.left) == [b"1", b"3"]
    assert branch.next_have() == Have(())


def test_what_was_left_is_offered_once_unless_it_is_not_settled() -> None:
    branch = _branch()
    branch.leave(b"1", _SCROLL)
    branch.leave(b"2", _SCROLL)
    branch.leave(b"3", ("memory", _B))
    branch.leave(b"4", ("other", _A))
    assert list(branch.offer("memory", (EVERYTHING,), [_B])) == [_SCROLL]
    assert list(branch.offer("memory", (CoordinateRange.of(_A),), [])) == []
    assert list(branch.left) == [b"3", b"4"]


def test_a_comparison_confirms_what_it_saw() -> None:
    branch = _branch()
    branch.leave(b"1", _SCROLL)
    branch.leave(b"2", ("memory", _B))
    branch.note_written(0, b"3", _SCROLL)
    branch.begin("memory", [_B])
    branch.leave(b"4", _SCROLL)
    branch.confirm("memory")
    assert (list(branch.left), branch.written) == ([b"2", b"4"], {})
    branch.confirm("memory")
    assert branch.scrolls == 2


def test_a_comparison_is_due_when_too_much_is_left_or_a_writer_does_not_tell() -> None:
    branch = _branch(left_max=2)
    branch.leave(b"1", _SCROLL)
    branch.note_written(5, b"2", ("other", _A))
    assert not branch.overdue(5.9, 1)
    assert list(branch.overdue(6, 1)) == ["other"]
    branch.note_written(6, b"4", ("third", _A))
    assert list(branch.overdue(7, 1)) == ["other", "third"]
    branch.leave(b"3", _SCROLL)
    assert branch.is_full
    assert list(branch.overdue(5.9, 1)) == ["memory"]


def test_what_peers_pruned_stays_so_where_a_node_knows_too_few_to_choose() -> None:
    mesh = _Mesh(2, {(0, 1)})
    tree = mesh.nodes[0].tree
    (link,) = tree.branches
    tree.is_grown = False
    tree.pruned(link)
    tree.is_grown = False
    tree.follow(None)
    assert not tree.pushes(link)
    tree.is_grown = True
    tree.is_grown = False
    assert tree.pushes(link), "all are linked again"


def test_what_lies_outside_of_what_both_hold_is_forgotten() -> None:
    branch = _branch()
    branch.leave(b"1", _SCROLL)
    branch.leave(b"2", ("memory", _B))
    branch.note_written(0, b"3", _SCROLL)
    branch.keep_to("memory", (CoordinateRange.of(_B),))
    assert (list(branch.left), branch.written) == ([b"2"], {})


# -- of real cores ---------------------------------------------------------------------------


def _line(world: World, number: int) -> None:
    world.edit(number, _A, lambda replica: replica.append(_A, world.oracle.token() + "\n"))


_READS = Permissions.from_uris(["phext:?read=*"])
_FEW = Permissions.from_uris([f"phext:memory?write={CoordinateRange.of(_A)}"])


@pytest.mark.parametrize(
    ("lacking", "permissions"),
    [
        ((), {}),
        ((15,), {}),
        ((14, 19), {}),
        ((), {15: _FEW, 18: _READS}),
        ((), {number: _FEW for number in range(12, 20)}),
    ],
)
def test_a_mesh_of_nodes_that_are_not_all_linked_hears_each_edit_once(
    lacking: tuple[int, ...], permissions: dict[int, Permissions]
) -> None:
    world = World(1, 20, overlay=_rings(20, 3, 1), permissions=permissions)
    rest = subtract(EVERYTHING, [CoordinateRange.of(_A)])
    for number in lacking:
        world.apply(SetHeld(number, tuple(map(str, rest))))
    for i in range(12):
        world.at(1 + i, lambda i=i: _line(world, i))  # type: ignore[misc]
    world.run_until(5.5)
    before = world.measured()
    world.run_until(13)
    after = world.measured()
    needed = after.updates - after.redundant - before.updates + before.redundant
    assert needed >= 8 * (19 - len(lacking))
    assert after.redundant - before.redundant <= needed / 2  # a flood: 4; checks ask who has it
    world.settle(5)


def test_a_mesh_whose_nodes_lose_power_unseen_hears_of_edits_within_two_seconds() -> None:
    world = World(2, 20, overlay=_rings(20, 3, 2))
    for i in range(4):
        world.at(1 + i, lambda i=i: _line(world, i))  # type: ignore[misc]
    world.run_until(6)
    for number in (5, 6):
        world.apply(Crash(number, is_silent=True))
    _line(world, 0)
    world.run_until(8)
    texts = {world.text(number, _A) for number in range(20) if world.is_up(number)}
    assert [text.count("\n") for text in texts] == [5]
    world.settle(10)


# -- where all choose one tree ---------------------------------------------------------------


def _plan(mesh: _Mesh, pairs: set[tuple[int, int]], numbers: Iterable[int]) -> None:
    """Let the nodes of these numbers follow the tree of a graph."""
    chosen = {bytes([number]): set[bytes]() for number in range(len(mesh.nodes))}
    for one, other in pairs:
        chosen[bytes([one])].add(bytes([other]))
        chosen[bytes([other])].add(bytes([one]))
    tree = spanning_tree(chosen)
    for number in numbers:
        mesh.nodes[number].tree.follow(frozenset(tree[bytes([number])]))


@given(st.integers(2, 24), st.integers(1, 4), st.integers(0, 99), st.data())
def test_in_a_tree_that_all_chose_nothing_ever_comes_twice(
    count: int, rings: int, seed: int, data: st.DataObject
) -> None:
    pairs = _rings(count, rings, seed)
    mesh = _Mesh(count, pairs)
    _plan(mesh, pairs, range(count))
    assert len(mesh.eager()) == 2 * (count - 1)
    for _ in range(data.draw(st.integers(1, 9))):
        mesh.publish(data.draw(st.integers(0, count - 1)))
    mesh.run(0.01)
    assert (mesh.missing(), mesh.redundant) == ([], 0)


@given(st.integers(3, 24), st.integers(2, 4), st.integers(0, 99), st.data())
def test_everybody_hears_everything_where_nodes_chose_different_trees_or_one_dies(
    count: int, rings: int, seed: int, data: st.DataObject
) -> None:
    pairs = _rings(count, rings, seed)
    mesh = _Mesh(count, pairs)
    _plan(mesh, pairs, range(count))
    knows_less = set(data.draw(st.lists(st.sampled_from(sorted(pairs)), max_size=9)))
    others = data.draw(st.lists(st.integers(0, count - 1), max_size=count))
    _plan(mesh, pairs - knows_less, others)
    mesh.kill(data.draw(st.integers(0, count - 1)), is_noticed=data.draw(st.booleans()))
    for _ in range(4):
        mesh.publish(data.draw(st.sampled_from(list(mesh.alive))))
        mesh.run(1)
    mesh.run(3)
    assert mesh.missing() == []


def test_a_link_of_the_tree_is_not_pruned_and_another_one_once() -> None:
    said: dict[int, list[Message]] = {1: [], 2: []}
    tree = Tree(Clock(lambda due: None), Timing(), Limits(), Random(1))
    tree.is_grown = True
    tree.follow(frozenset([b"1"]))
    for link in said:
        tree.join(link, Branch(str(link).encode(), said[link].append, left_max=9))
    assert (tree.pushes(1), tree.pushes(2)) == (True, False)
    assert (tree.is_chosen(1), tree.is_chosen(2)) == (True, False)
    tree.keep(b"u", _SCROLL, 1)
    for _ in range(2):
        for link in said:
            tree.doubled(link, b"u")
    assert said == {1: [], 2: [Prune()]}
    tree.lose(1)
    assert said[2] == [Prune(), Graft(())], "what came by the lost one comes by it"
    assert tree.pushes(2)
    assert not tree.is_chosen(2), "it mends what is missing until another tree is chosen"
    tree.follow(None)
    assert tree.is_chosen(2)
    assert tree.rarer == 1


def test_a_link_that_was_faster_than_the_tree_is_pruned_when_the_tree_brings_it_too() -> None:
    said: dict[int, list[Message]] = {1: [], 2: [], 3: []}
    tree = Tree(Clock(lambda due: None), Timing(), Limits(), Random(1))
    tree.is_grown = True
    tree.follow(frozenset([b"1"]))
    for link in said:
        tree.join(link, Branch(str(link).encode(), said[link].append, left_max=9))
    tree.hear(2, [b"u"])
    tree.tick(1)
    assert tree.pushes(2)
    tree.keep(b"u", _SCROLL, 1, 2)
    tree.doubled(3, b"u")
    assert tree.pushes(2), "the tree may have brought nothing"
    for _ in range(2):
        tree.doubled(1, b"u")
    assert said == {1: [], 2: [Graft((b"u",)), Prune()], 3: [Prune()]}
    assert not tree.pushes(2)


@pytest.mark.parametrize(
    ("round_trip_s", "waits_s"), [(None, 0.0), (0.001, 0.002), (0.16, 0.32), (9.0, 0.4)]
)
def test_where_peers_are_far_more_time_is_given_to_the_tree_and_to_answers(
    round_trip_s: float | None, waits_s: float
) -> None:
    said: dict[int, list[Message]] = {1: [], 2: []}
    tree = Tree(Clock(lambda due: None), Timing(graft_delay_s=0.1), Limits(), Random(1))
    tree.is_grown = True
    tree.follow(frozenset([b"1"]))
    for link in said:
        peer = str(link).encode()
        tree.join(
            link, Branch(peer, said[link].append, left_max=9, round_trip_s=lambda: round_trip_s)
        )
        tree.hear(link, [b"u"])
    due = tree.deadline
    assert 0.1 + waits_s <= due <= 0.2 + waits_s
    tree.tick(due)
    assert said == {1: [Graft((b"u",))], 2: []}
    assert tree.deadline == pytest.approx(due + 0.1 + waits_s)


def test_what_is_here_has_no_round_trips_looked_up() -> None:
    tree, looked = Tree(Clock(lambda due: None), Timing(), Limits(), Random(0)), []
    for link in range(2):

        def trip(link: int = link) -> float:
            looked.append(link)
            return 0.0

        tree.join(link, Branch(bytes([link]), print, left_max=9, round_trip_s=trip))
    tree.follow(frozenset(map(bytes, [[0], [1]])))
    ids = [update_id(*_SCROLL, bytes([i])) for i in range(3)]
    tree.keep(ids[0], _SCROLL, 1)
    tree.hear(0, ids[:1])
    assert looked == []
    tree.hear(0, ids)
    assert looked == [0, 1]  # once for all that is missing


def test_what_goes_on_for_five_seconds_does_not_count_as_on_its_way() -> None:
    clock = Clock(lambda due: None)
    tree = Tree(clock, Timing(), Limits(), Random(1))
    tree.is_grown = True
    flowing = []
    for step in range(24):
        clock.advance(step / 4)
        tree.flow("memory")
        flowing.append(tree.is_flowing("memory"))
    assert flowing == [True] * 20 + [False] * 4


def test_many_links_are_compared_as_often_together_as_four() -> None:
    tree = Tree(Clock(lambda due: None), Timing(), Limits(), Random(1))
    for link in range(16):
        tree.join(link, Branch(bytes([link]), lambda message: None, left_max=9))
    assert tree.rarer == 1
    tree.is_grown = True
    assert tree.rarer == 4
