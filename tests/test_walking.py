"""Walking through a phext shows every scroll once, and costs what a page shows."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync import Coordinate, CoordinateError, MemoryStore
from phextsync.prefixes import Prefix, prefix_of, prefix_text, range_of
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.trust.permissions import UNRESTRICTED
from phextsync.web.walking import ROWS, walk


def _replica(places: Iterable[tuple[int, ...]], *, settled: bool) -> Replica:
    replicas = ReplicaSet(
        MemoryStore(),
        node_id=bytes(16),
        random=Random(1),
        wall_time_ms=lambda: 0,
        permissions=UNRESTRICTED,
    )
    replica = replicas.open("memory")
    with replica.batch():
        for place in sorted(places):
            replica[Coordinate(*place)] = f"{place}\nmore"
    if settled:
        replicas.commit()
    return replica


def _all_of(replica: Replica, prefix: Prefix) -> list[tuple[Coordinate, int]]:
    """Return the scrolls that one reaches from a prefix by all pages, with their sizes."""
    found: list[tuple[Coordinate, int]] = []
    after: str | None = ""
    while after is not None:
        page = walk(replica, prefix, after)
        assert len(page.branches) + len(page.leaves) <= ROWS
        found += [(leaf.coordinate, leaf.size) for leaf in page.leaves]
        for branch in page.branches:
            below = _all_of(replica, branch.prefix)
            assert len(below) == branch.scrolls
            assert branch.size == sum(size for _, size in below)
            assert branch.first == str(below[0][0].parts)
            found += below
        after = page.after
    return found


_PLACES = st.builds(
    lambda seed, count, most: {
        tuple(Random(seed * 1000 + i).randint(1, most) for _ in range(9)) for i in range(count)
    },
    st.integers(0, 1000),
    st.integers(0, 400),
    st.sampled_from([1, 2, 3, 150, 999]),
)


@settings(max_examples=25, deadline=None)
@given(_PLACES, st.booleans())
def test_one_reaches_every_scroll_once_in_order(
    places: set[tuple[int, ...]], settled: bool
) -> None:
    replica = _replica(places, settled=settled)
    expected = [Coordinate(*place) for place in sorted(places)]
    found = _all_of(replica, ())
    assert [at for at, _ in found] == expected
    assert [size for _, size in found] == [replica.size(at) for at in expected]
    flat: list[Coordinate] = []
    after: str | None = ""
    while after is not None:
        page = walk(replica, (), after, flat=True)
        flat += [leaf.coordinate for leaf in page.leaves]
        after = page.after
    assert flat == expected


def test_what_has_one_way_only_is_walked_at_once() -> None:
    places = {(1, 5, 2, 3, 7, 3, 9, number % 2 + 1, number) for number in range(1, 300)}
    page = walk(_replica(places, settled=True), ())
    assert prefix_text(page.prefix) == "1.5.2/3.7.3/9"
    assert [(row.prefix[-1], row.scrolls) for row in page.branches] == [(1, 149), (2, 150)]


def test_a_page_costs_what_it_shows() -> None:
    class Counting(Replica):
        reads = 0

        def read(self, coordinate: Coordinate) -> str:
            Counting.reads += 1
            return super().read(coordinate)

    places = {(1, 1, 1, 1, 1, 1, a, b, 1) for a in range(1, 31) for b in range(1, 101)}
    replica = _replica(places, settled=True)
    replica.__class__ = Counting
    page = walk(replica, ())
    assert sum(row.scrolls for row in page.branches) == len(places)
    assert Counting.reads == len(page.branches)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("", ()), ("1", (1,)), ("1.5.2/3", (1, 5, 2, 3)), ("1.2.3/4.5.6/7.8.9/", tuple(range(1, 10)))],
)
def test_a_prefix_is_read_as_it_is_written(text: str, prefix: Prefix) -> None:
    assert prefix_of(text) == prefix
    assert prefix_of(prefix_text(prefix)) == prefix
    assert all(at in range_of(prefix) for at in [Coordinate(*prefix, *[1] * (9 - len(prefix)))])


@pytest.mark.parametrize("text", ["0", "1000", "1.x", "1..2", "-1", "1.2.3.4.5.6.7.8.9.1", "²"])
def test_what_is_no_prefix_is_said_to_be_none(text: str) -> None:
    with pytest.raises(CoordinateError, match="expected up to nine numbers"):
        prefix_of(text)
