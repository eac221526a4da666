"""Rules of what is ignored stay as somebody wrote them, whoever changes them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.crdt import Scroll
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.rules import merged_rules, rules_of_others
from phextsync.index import Coordinate
from tests.test_files import Mesh

_PLACE = Coordinate(*[1] * 9)
_RULES = st.lists(st.sampled_from(["*.log", "*.logs", "*.lo", "a b", "a c", "!a", ""]), max_size=6)


@st.composite
def _texts(draw: st.DrawFn) -> str:
    rules = draw(_RULES)
    return "\n".join(rules) + ("\n" if draw(st.booleans()) else "")


def _rules(*texts: str) -> set[str]:
    return {line for text in texts for line in text.split("\n")}


@given(_texts(), _texts(), _texts())
def test_a_merge_makes_no_rule_that_nobody_wrote(base: str, current: str, new: str) -> None:
    merged = merged_rules(base, current, new)
    assert _rules(merged) <= _rules(base, current, new, "")
    for rule in _rules(current, new) - _rules(base):
        assert rule in _rules(merged)


@given(_texts(), _texts())
def test_what_one_side_changed_is_there_once(base: str, new: str) -> None:
    whole = new + ("\n" if new and not new.endswith("\n") else "")
    assert merged_rules(base, base, new) == whole
    assert merged_rules(base, new, base) == whole
    assert merged_rules(base, new, new) == whole


@pytest.mark.parametrize("limit", [-1, 20_000])
@given(_texts(), _texts(), _texts())
def test_scrolls_that_are_changed_apart_by_lines_merge_by_lines(
    limit: int, base: str, one: str, other: str
) -> None:
    base, one, other = (merged_rules("", "", text) for text in (base, one, other))
    first = Scroll(_PLACE, 1)
    begin = first.import_text(base)
    sides = [Scroll(_PLACE, client, [begin] if begin else []) for client in (2, 3)]
    updates = [
        side.import_text(text, limit, by_lines=True)
        for side, text in zip(sides, (one, other), strict=True)
    ]
    for side, update in zip(sides, updates[::-1], strict=True):
        if update is not None:
            side.apply(update)
    assert sides[0].text == sides[1].text
    assert _rules(sides[0].text) <= _rules(base, one, other)


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ("*.logs", "*.tmp", {"*.logs", "*.tmp"}),
        ("", "*.tmp", {"*.tmp"}),
        ("*.log\n*.bin", "*.logs", {"*.logs", "*.bin"}),
    ],
)
@pytest.mark.parametrize("when", ["apart", "at once", "before it was written"])
def test_a_rule_that_two_machines_change_is_no_third_one(
    end: str, one: str, other: str, merged: set[str], when: str
) -> None:
    mesh = Mesh(2)
    first, second = mesh.machines
    first.disk.put(IGNORE_FILE, "build/\n*.log\n*.o" + end)
    mesh.settle()
    if when == "apart":
        mesh.part()
    first.disk.put(IGNORE_FILE, f"build/\n{one}\n*.o{end}".replace("\n\n", "\n"))
    if when == "before it was written":
        first.work()
        mesh.network.run(0.1)
    second.disk.put(IGNORE_FILE, f"build/\n{other}\n*.o{end}".replace("\n\n", "\n"))
    first.disk.put("a.stmp", "kept\n")
    mesh.pass_time(3)
    files = mesh.settle()
    assert {*files[IGNORE_FILE].split()} == {"build/", "*.o"} | merged
    assert files["a.stmp"] == "kept\n"


def test_a_rule_that_two_sides_changed_apart_is_a_conflict_on_both() -> None:
    mesh = Mesh(2)
    mesh.machines[0].disk.put(IGNORE_FILE, "build/\n*.log\n*.o\n")
    mesh.settle()
    mesh.part()
    for machine, rule in zip(mesh.machines, ("*.logs", "*.tmp"), strict=True):
        machine.disk.put(IGNORE_FILE, f"build/\n{rule}\n*.o\n")
    mesh.pass_time(3)
    mesh.settle()
    for machine, mine, theirs in zip(
        mesh.machines, ("*.logs\n", "*.tmp\n"), ("*.tmp\n", "*.logs\n"), strict=True
    ):
        assert machine.binding is not None
        (logged,) = machine.binding.conflicts
        found = logged.conflict
        assert (logged.path, found.line, found.base) == (IGNORE_FILE, 2, "*.log\n")
        assert (found.mine, found.theirs) == (mine, theirs)


def test_what_others_put_beside_a_rule_that_was_changed_here_counts_as_their_change() -> None:
    base, mine = "build/\n*.log\n*.o\n", "build/\n*.logs\n*.o\n"
    assert rules_of_others(base, mine, "build/\n*.logs\n*.tmp\n*.o\n") == "build/\n*.tmp\n*.o\n"
    assert rules_of_others(base, mine, f"new/\n{mine}") == f"new/\n{base}"
    assert rules_of_others(base, mine, f"{mine}*.a\n") == f"{base}*.a\n"
    assert rules_of_others(base, mine, "*.logs\n*.o\n") == "*.log\n*.o\n"
