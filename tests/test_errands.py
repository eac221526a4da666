"""Where nodes have fewer links than there are nodes, what they hold in parts comes to all that hold
it, and leaves those that do not."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product

from phextsync.control import placing
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.errands import Errands
from phextsync.placement.policy import Rule
from phextsync.testing import Crash, MemoryMesh, Restart
from phextsync.testing.mesh import PHEXT, Editor

_COUNT, _LINKS_MAX, _COPIES = 12, 4, 3
_PLACES = [Coordinate(library, *[1] * 8) for library in range(1, 9)]
_LEAVES_S = 30.0


def _append(place: Coordinate, line: str, editor: Editor) -> None:
    editor.append(place, line)


def _write(mesh: MemoryMesh, number: int, place: Coordinate) -> None:
    assert mesh.edit(number, place, partial(_append, place, mesh.oracle.token() + "\n"))


def _holders(mesh: MemoryMesh, place: Coordinate) -> set[int]:
    """Return on which nodes a place is placed."""
    placement = placing.placement_of(mesh.node(0).replicas, PHEXT)
    return {int(member.name.removeprefix("node-")) for member in placement.holders(place)}


def _having(mesh: MemoryMesh, place: Coordinate) -> set[int]:
    """Return which nodes have a scroll on their disks or are about to."""
    up = filter(mesh.is_up, range(mesh.count))
    return {number for number in up if place in mesh.node(number).phext(PHEXT).index}


def _astray(mesh: MemoryMesh) -> Iterator[str]:
    for place in _PLACES:
        holders, having = _holders(mesh, place), _having(mesh, place)
        if holders != having:
            yield f"{place} is placed on {sorted(holders)} and is on {sorted(having)}"
        elif len({mesh.node(number).phext(PHEXT)[place] for number in having}) > 1:
            yield f"{place} is not the same on {sorted(having)}"


async def _place(mesh: MemoryMesh, follow: Iterable[int] = range(_COUNT)) -> None:
    """Write at all places, place them, and let nodes follow that."""
    await mesh.run_until(10)
    for number, place in enumerate(_PLACES):
        _write(mesh, 6 + number % (mesh.count - 6), place)
    await mesh.run_until(15)
    placing.set_copies(mesh.node(0).replicas, PHEXT, _COPIES)
    placing.add_boundaries(mesh.node(0).replicas, PHEXT, _PLACES)
    for number in follow:
        mesh.node(number).desk.ask(["follow", PHEXT])


def test_a_range_leaves_a_node_that_has_no_lasting_link_with_its_holders() -> None:
    mesh = MemoryMesh(1, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await _place(mesh)
        until = mesh.now + _LEAVES_S
        while mesh.now < until:
            await mesh.run_until(mesh.now + 1)
            for place in _PLACES:
                assert len(_having(mesh, place)) >= _COPIES
        assert list(_astray(mesh)) == []
        await mesh.run_until(mesh.now + 15)
        assert all(len(mesh.node(n).links.admitted()) <= _LINKS_MAX for n in range(_COUNT))

    mesh.run(body)


def test_an_edit_comes_to_holders_that_have_no_lasting_link_with_each_other() -> None:
    mesh = MemoryMesh(2, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await _place(mesh)
        await mesh.run_until(mesh.now + _LEAVES_S)
        assert list(_astray(mesh)) == []
        for place in _PLACES:
            _write(mesh, min(_holders(mesh, place)), place)
        assert list(_astray(mesh)) != []
        await mesh.run_until(mesh.now + 30)
        assert list(_astray(mesh)) == []

    mesh.run(body)


def test_holders_that_start_again_look_after_each_other_beyond_their_links() -> None:
    mesh = MemoryMesh(3, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await _place(mesh)
        await mesh.run_until(mesh.now + _LEAVES_S)
        away = max(_holders(mesh, _PLACES[0]))
        mesh.apply(Crash(away, is_silent=True))
        for place in _PLACES:
            _write(mesh, min(_holders(mesh, place) - {away}), place)
        await mesh.run_until(mesh.now + 30)
        mesh.apply(Restart(away))
        await mesh.run_until(mesh.now + 60)
        assert list(_astray(mesh)) == []

    mesh.run(body)


def test_one_that_comes_to_hold_ranges_takes_a_few_at_a_time_from_holders_beyond_its_links() -> (
    None
):
    mesh = MemoryMesh(4, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        mesh.node(5).replicas.hold(PHEXT, [])
        await _place(mesh, [number for number in range(_COUNT) if number != 5])
        await mesh.run_until(mesh.now + _LEAVES_S)
        rule = Rule(EVERYTHING, (mesh.node(5).core.node_id,))
        placing.set_rule(mesh.node(0).replicas, PHEXT, rule)
        mesh.node(5).desk.ask(["follow", PHEXT])
        holding, empty = mesh.node(5).replicas.holding, 0
        for _ in range(80):
            await mesh.run_until(mesh.now + 0.5)
            held = [place for place in _PLACES if holding.is_held(PHEXT, place)]
            empty = max(empty, sum(5 not in _having(mesh, place) for place in held))
        assert held == _PLACES
        assert empty == 2
        assert all(5 in _having(mesh, place) for place in _PLACES)

    mesh.run(body)


def test_what_a_node_wrote_of_what_others_hold_comes_to_them_beyond_its_links() -> None:
    mesh = MemoryMesh(5, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await _place(mesh)
        await mesh.run_until(mesh.now + _LEAVES_S + 15)
        number, place = next(_far(mesh))
        node = mesh.node(number)
        node.replicas.guests.admit((PHEXT, place))  # no holder could be reached
        node.phext(PHEXT).append(place, "from afar\n")
        await mesh.run_until(mesh.now + 15)
        assert not node.replicas.guests.unsent
        assert all(
            "from afar" in mesh.node(other).phext(PHEXT)[place] for other in _holders(mesh, place)
        )

    mesh.run(body)


def test_what_all_hold_asks_for_no_links_beyond_those_that_last() -> None:
    mesh = MemoryMesh(6, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await _place(mesh)
        placing.set_rule(mesh.node(0).replicas, PHEXT, Rule(EVERYTHING, everywhere=True))
        await mesh.run_until(mesh.now + 5)
        for core in (mesh.node(number).core for number in range(_COUNT)):
            placements = {PHEXT: placing.placement_of(core.replicas, PHEXT)}
            assert not Errands(core).look(mesh.now, placements, core.presence.heard())

    mesh.run(body)


def _far(mesh: MemoryMesh) -> Iterator[tuple[int, Coordinate]]:
    """Iterate over the nodes and places of which no holder is linked with the node."""
    for number, place in product(range(_COUNT), _PLACES):
        holders = _holders(mesh, place)
        node_ids = {mesh.node(holder).core.node_id for holder in holders}
        if number not in holders and not node_ids & mesh.node(number).links.admitted():
            yield number, place
