"""The overlay: few links a node, the same at both ends, connected and of small diameter."""

from collections.abc import Iterator
from itertools import combinations
from math import ceil, log
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from phextsync.node.overlay import Pair, Rings, overlay, spanning_tree

_LINKS_MAX = 16
_counts, _seeds = st.integers(0, 400), st.integers(0, 999)


def _nodes(count: int, seed: int) -> list[bytes]:
    random = Random(seed)
    return [random.randbytes(16) for _ in range(count)]


def _shared(nodes: list[bytes], seed: int, pairs: int) -> dict[Pair, int]:
    """Return how many slots some pairs share."""
    random, found = Random(seed), {}
    for _ in range(pairs if len(nodes) > 1 else 0):
        one, other = sorted(random.sample(nodes, 2))
        found[one, other] = random.randint(1, 9)
    return found


def _distances(chosen: dict[bytes, set[bytes]], start: bytes) -> Iterator[int]:
    """Iterate over how many links from a node each node is that can be reached."""
    seen, edge, distance = {start}, [start], 0
    while edge:
        yield from (distance for _ in edge)
        edge = sorted({peer for node in edge for peer in chosen[node]} - seen)
        seen.update(edge)
        distance += 1


@given(_counts, _seeds, st.integers(0, 2000), st.integers(4, 20))
def test_both_ends_choose_a_link_and_no_node_has_more_than_the_limit(
    count: int, seed: int, pairs: int, links_max: int
) -> None:
    nodes = _nodes(count, seed)
    chosen = overlay(nodes, _shared(nodes, seed, pairs), links_max)
    assert set(chosen) == set(nodes)
    for node, peers in chosen.items():
        assert len(peers) <= links_max
        assert node not in peers
        assert all(node in chosen[peer] for peer in peers)


@given(st.integers(2, 400), _seeds, st.integers(0, 2000), st.integers(4, 20))
def test_every_node_reaches_every_other_over_few_links(
    count: int, seed: int, pairs: int, links_max: int
) -> None:
    nodes = _nodes(count, seed)
    shared = _shared(nodes, seed, pairs)
    distances = list(_distances(overlay(nodes, shared, links_max), nodes[0]))
    assert len(distances) == count
    if not shared and links_max >= _LINKS_MAX:
        assert max(distances) <= 1 + ceil(log(count, 4))


@given(st.integers(1, _LINKS_MAX + 1), _seeds)
def test_a_mesh_within_the_limit_is_linked_fully(count: int, seed: int) -> None:
    nodes = _nodes(count, seed)
    chosen = overlay(nodes, {}, _LINKS_MAX)
    assert all(peers == set(nodes) - {node} for node, peers in chosen.items())


@given(st.integers(18, 300), _seeds)
def test_who_shares_slots_is_linked_first(count: int, seed: int) -> None:
    nodes = _nodes(count, seed)
    shared = {(min(pair), max(pair)): 1 for pair in combinations(nodes[:12], 2)}
    shared[min(nodes[0], nodes[13]), max(nodes[0], nodes[13])] = 9
    chosen = overlay(nodes, shared, _LINKS_MAX)
    assert nodes[13] in chosen[nodes[0]]
    assert all(len(chosen[node] & set(nodes[:12])) >= 10 for node in nodes[:12])


@given(st.integers(18, 300), _seeds, st.integers(0, 999))
def test_a_node_that_goes_changes_few_links_of_others(count: int, seed: int, which: int) -> None:
    nodes = _nodes(count, seed)
    gone = nodes[which % count]
    before = overlay(nodes, {}, _LINKS_MAX)
    after = overlay([node for node in nodes if node != gone], {}, _LINKS_MAX)
    if count > _LINKS_MAX + 2:
        new = sum(len(after[node] - before[node]) for node in after)
        assert new <= 2 * (3 + 4)  # three pairs meet on the first ring, one on each other


@given(st.integers(18, 300), _seeds)
def test_who_would_be_linked_if_it_came_is_seen_without_choosing_again(
    count: int, seed: int
) -> None:
    *nodes, newcomer = _nodes(count + 1, seed)
    chosen = overlay([*nodes, newcomer], {}, _LINKS_MAX)
    rings = Rings(nodes)
    would_meet = {node for node in nodes if rings.would_meet(node, newcomer)}
    assert chosen[newcomer] == would_meet


@given(st.integers(18, 300), _seeds)
def test_the_order_in_which_nodes_are_told_does_not_matter(count: int, seed: int) -> None:
    nodes = _nodes(count, seed)
    shared = _shared(nodes, seed, 99)
    others = dict(sorted(shared.items(), reverse=True))
    assert overlay(nodes, shared, _LINKS_MAX) == overlay(nodes[::-1] * 2, others, _LINKS_MAX)


@given(st.integers(1, 60), _seeds, st.data())
def test_no_way_leads_over_one_with_limits_where_there_is_another(
    count: int, seed: int, data: st.DataObject
) -> None:
    nodes = _nodes(count, seed)
    chosen = overlay(nodes, {}, data.draw(st.integers(4, _LINKS_MAX)))
    limited = frozenset(data.draw(st.lists(st.sampled_from(nodes), max_size=count)))
    tree = spanning_tree(chosen, limited)
    assert all(len(list(_distances(tree, node))) == count for node in nodes[:1])
    assert sum(map(len, tree.values())) == 2 * (count - 1)
    others = {node: chosen[node] - limited for node in nodes if node not in limited}
    if others and len(list(_distances(others, min(others)))) == len(others):
        within = {node: tree[node] - limited for node in others}
        assert len(list(_distances(within, min(others)))) == len(others)


@given(st.integers(1, 400), _seeds)
def test_the_tree_reaches_everybody_over_few_links_of_the_overlay(count: int, seed: int) -> None:
    chosen = overlay(_nodes(count, seed), {}, _LINKS_MAX)
    tree = spanning_tree(chosen)
    assert sum(map(len, tree.values())) == 2 * (count - 1)
    assert all(peers <= chosen[node] for node, peers in tree.items())
    for start in list(tree)[:: max(1, count // 5)]:
        distances = list(_distances(tree, start))
        assert len(distances) == count
        assert max(distances) <= 8
