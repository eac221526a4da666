"""Directories and scrolls become the same, whoever changed what, and no line is lost or doubled."""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.files.absences import GRACE_S, GUARD_NAMES, GUARD_S
from phextsync.files.directory import BACKUPS
from phextsync.files.drafts import aside_of
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.markers import MARKER_FILE
from phextsync.files.merging import Merging
from phextsync.files.moves import Moves
from phextsync.files.paths import Abilities
from phextsync.files.problems import RETRY_MAX_S
from phextsync.files.reading import Reader
from phextsync.index import Coordinate
from phextsync.replica.taking_back import Writer
from phextsync.testing.inodes import Kind
from phextsync.testing.memory_disk import MemoryDisk
from sims.machines import RANGE, Machine
from sims.network import Network

_OUTSIDE = Coordinate(*[1] * 9)
_MAP = RANGE.lower


class Mesh:
    """Machines that can be cut off and joined. The arguments are about the first one's system."""

    def __init__(self, count: int, *, has_exchange: bool = True, has_links: bool = True) -> None:
        self.network = Network(count)
        first = Machine(self.network, 0, has_exchange=has_exchange, has_links=has_links)
        self.machines = [first, *(Machine(self.network, i) for i in range(1, count))]

    def join(self) -> None:
        self.network.link_all()
        self.pass_time(0.2)

    def part(self) -> None:
        for link in list(self.network.links):
            self.network.cut(link)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in which the machines do what is to be done."""
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(0.1)
            for machine in self.machines:
                if machine.is_due():
                    machine.work()

    def settle(self, seconds: float = 4.0) -> dict[str, str]:
        """Join all and let time pass; return the files that all have."""
        self.join()
        self.pass_time(seconds)
        texts = [machine.visible() for machine in self.machines]
        assert all(other == texts[0] for other in texts), texts
        return texts[0]


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh(2)
    made.join()
    return made


def _replace(machine: Machine, path: str, text: str) -> None:
    """Save a file as editors do: another beside it, renamed over it."""
    machine.disk.put(f"{path}.tmp", text)
    machine.disk.rename(f"{path}.tmp", path)


def _put(machine: Machine, path: str, text: str) -> None:
    """Save a file by writing over it."""
    machine.disk.put(path, text)


def _place(machine: Machine, name: str) -> Coordinate:
    assert machine.binding is not None
    (place,) = machine.binding.naming.map.places_of(name)
    return place


def _problems(machine: Machine) -> dict[str, str]:
    assert machine.binding is not None
    return {problem.path: problem.reason for problem in machine.binding.problems}


def _refuse(machine: Machine, number: int, *, only: str = "") -> None:
    """Let the disk refuse what is asked of files with `only` in their path."""

    def before(name: str, path: str) -> None:
        if only in path and name in ("create", "write", "link", "exchange", "rename", "mkdir"):
            raise OSError(number, os.strerror(number))

    machine.files.before = before


def _allow(machine: Machine) -> None:
    machine.files.before = lambda name, path: None


class _AtCall:
    """Does something just before a machine asks the `number`th time of its files, from now on."""

    def __init__(self, machine: Machine, number: int, do: Callable[[], object]) -> None:
        self.calls = 0
        self._number = number
        self._do = do
        machine.files.before = self

    def __call__(self, name: str, path: str) -> None:
        self.calls += 1
        if self.calls == self._number:
            self._do()


def _end() -> None:
    raise KeyboardInterrupt


def _kept_aside(machine: Machine) -> list[str]:
    return [text for path, text in machine.disk.files().items() if path.startswith(BACKUPS)]


def test_a_file_becomes_a_file_elsewhere_and_its_changes_follow(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("MEMORY.md", "milk\n")
    assert mesh.settle() == {"MEMORY.md": "milk\n"}
    before = one.disk.get("MEMORY.md").number
    two.disk.put("MEMORY.md", "milk\nbread\n")
    number = two.disk.get("MEMORY.md").number
    assert mesh.settle() == {"MEMORY.md": "milk\nbread\n"}
    assert one.disk.get("MEMORY.md").number != before
    assert two.disk.get("MEMORY.md").number == number  # no echo


@pytest.mark.parametrize("is_replaced", [False, True])
def test_changes_made_apart_are_merged(mesh: Mesh, is_replaced: bool) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\ntwo\nthree\n")
    mesh.settle()
    mesh.part()
    for machine, text in ((one, "one\ntwo\nthree\nfour\n"), (two, "zero\none\nthree\n")):
        if is_replaced:
            _replace(machine, "n.md", text)
        else:
            machine.disk.put("n.md", text)
    mesh.pass_time(1)
    assert mesh.settle() == {"n.md": "zero\none\nthree\nfour\n"}


def test_the_same_replacement_on_two_machines_is_one(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "one\n")
    mesh.settle()
    mesh.part()
    for machine in mesh.machines:
        _replace(machine, "n.md", "one\ntwo\n")
    mesh.pass_time(1)
    assert mesh.settle() == {"n.md": "one\ntwo\n"}


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize("own", ["own\none\ntwo\nthree\n", "ONE\ntwo\nthree\n", "one\nthree\n"])
def test_the_same_pull_onto_a_file_that_one_machine_changed_is_one(
    mesh: Mesh, own: str, is_taken: bool
) -> None:
    mesh.machines[0].disk.put("n.md", "one\ntwo\nthree\n")
    mesh.settle()
    mesh.part()
    if is_taken:
        mesh.machines[0].disk.put("n.md", own)
        mesh.pass_time(1)
    for machine, text in zip(mesh.machines, (own, "one\ntwo\nthree\n"), strict=True):
        _replace(machine, "n.md", f"{text}pulled\n")
    mesh.pass_time(1)
    assert mesh.settle() == {"n.md": f"{own}pulled\n"}


def test_the_same_pull_onto_a_file_that_came_from_elsewhere_meanwhile_is_one(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "one\ntwo\nthree\n")
    mesh.settle()
    mesh.part()
    place = _place(mesh.machines[0], "n.md")
    mesh.machines[0].peer.replica.edit_from(place, "one\n", "zero\none\n")
    for machine in mesh.machines:
        _replace(machine, "n.md", "one\ntwo\nthree\npulled\n")
    mesh.pass_time(1)
    assert mesh.settle() == {"n.md": "zero\none\ntwo\nthree\npulled\n"}


def test_words_put_in_at_one_place_apart_have_one_blank_between_them(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "buy milk\n")
    mesh.settle()
    mesh.part()
    for machine, kind in zip(mesh.machines, ("oat", "soy"), strict=True):
        machine.disk.put("n.md", f"buy {kind} milk\n")
    mesh.pass_time(1)
    (text,) = mesh.settle().values()
    assert text in ("buy oat soy milk\n", "buy soy oat milk\n")


def _restart_all(mesh: Mesh) -> None:
    for machine in mesh.machines:
        machine.files.end()
        mesh.network.crash(machine.number)
        machine.start()


@pytest.mark.parametrize(
    ("base", "texts", "lines"),
    [
        ("one\n", ("one\ntwo", "one\nthree"), ["one", "three", "two"]),
        ("one\n", ("one\ntwo\nfour", "one\nthree\n"), ["four", "one", "three", "two"]),
        ("one\r\n", ("one\r\ntwo", "one\r\nthree"), ["one", "three", "two"]),
        ("one\ntwo\n", ("one\ntwo", "one\ntwo\nthree"), ["one", "three", "two"]),
    ],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_last_lines_without_an_end_that_are_put_in_apart_stay_lines(
    mesh: Mesh, base: str, texts: tuple[str, str], lines: list[str], is_restarted: bool
) -> None:
    for number, saved in enumerate((texts, texts[::-1])):
        name = f"{number}.md"
        mesh.machines[0].disk.put(name, base)
        mesh.settle()
        mesh.part()
        for machine, text in zip(mesh.machines, saved, strict=True):
            machine.disk.put(name, text)
        mesh.pass_time(1)
        if is_restarted:
            _restart_all(mesh)
        assert sorted(mesh.settle()[name].splitlines()) == lines


@pytest.mark.parametrize(
    ("base", "texts", "merged"),
    [
        ("old\n", ("cat\n", "dog\n"), ["cat", "dog"]),
        ("old", ("cat", "dog"), ["cat", "dog"]),
        ("old\r\n", ("cat\r\n", "dog\r\n"), ["cat", "dog"]),
        ("one\ntwo\n", ("three\nfour\n", "five\nsix\n"), ["five", "four", "six", "three"]),
        ("old stuff here\n", ("cat\n", "old stuff here too\n"), [" too", "cat"]),
        (
            "one\nold stuff\nlast\n",
            ("one\nlast\n", "one\nold stuff X\nlast\n"),
            [" X", "last", "one"],
        ),
        ("one\ntwo\n", ("one two\n", "one\nX two\n"), ["X ", "one two"]),
        ("a b c\nd e f\n", ("d e f\na b c\n", "a b c X\nd e f\n"), [" X", "a b c", "d e f"]),
        ("a old\n", ("a cat\n", "a dog\n"), None),
    ],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_words_that_two_put_in_apart_never_stand_glued_together(
    mesh: Mesh,
    base: str,
    texts: tuple[str, str],
    merged: list[str] | None,
    is_restarted: bool,
) -> None:
    for number, saved in enumerate((texts, texts[::-1])):
        name = f"{number}.md"
        mesh.machines[0].disk.put(name, base)
        mesh.settle()
        mesh.part()
        for machine, text in zip(mesh.machines, saved, strict=True):
            _replace(machine, name, text)
        mesh.pass_time(1)
        if is_restarted:
            _restart_all(mesh)
        text = mesh.settle()[name]
        if merged is None:
            assert text in ("a cat dog\n", "a dog cat\n")
        else:
            assert sorted(text.splitlines()) == merged


_PLAIN = "one\ntwo\n\nthree\nfour\n"


@pytest.mark.parametrize("other", [_PLAIN.replace("\n", "\r\n"), f"\ufeff{_PLAIN}"])
@pytest.mark.parametrize("before", [None, "", "old\nother\n"])
def test_texts_made_apart_that_differ_by_line_ends_or_a_byte_order_mark_are_one(
    mesh: Mesh, before: str | None, other: str
) -> None:
    for number, texts in enumerate(((_PLAIN, other), (other, _PLAIN))):
        name = f"{number}.md"
        if before is not None:
            mesh.machines[0].disk.put(name, before or "old\n")
            mesh.settle()
        if before == "":
            mesh.machines[0].disk.unlink(name)
            mesh.settle()
        mesh.part()
        for machine, text in zip(mesh.machines, texts, strict=True):
            _replace(machine, name, text)
        mesh.pass_time(2)
        assert mesh.settle()[name] in texts


def test_line_ends_that_two_change_apart_with_other_things_are_changed_once(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "one\ntwo\n")
    mesh.settle()
    mesh.part()
    for machine, line in zip(mesh.machines, ("three", "four"), strict=True):
        _replace(machine, "n.md", f"one\r\ntwo\r\n{line}\r\n")
    mesh.pass_time(1)
    (text,) = mesh.settle().values()
    assert sorted(text.split("\r\n")) == ["", "four", "one", "three", "two"]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_one_puts_at_the_end_of_a_line_comes_before_the_new_end_of_another(
    is_replaced: bool,
) -> None:
    for word in ("more", "again", "last", "x"):
        for line in (f"two {word}", word):
            mesh = Mesh(2)
            one, two = mesh.machines
            one.disk.put("n.md", "one\ntwo\nthree\n")
            mesh.settle(2)
            mesh.part()
            save = _replace if is_replaced else _put
            save(one, "n.md", f"one\n{line}\nthree\n")
            save(two, "n.md", "one\r\ntwo\r\nthree\r\n")
            mesh.pass_time(1)
            assert mesh.settle(2) == {"n.md": f"one\r\n{line}\r\nthree\r\n"}


def test_what_one_puts_at_the_beginning_of_a_line_stays_in_it_where_another_puts_lines() -> None:
    for line in ("# title\n\n", "a line\n"):
        for word in ("DONE", "more", "x", "-"):
            mesh = Mesh(2)
            one, two = mesh.machines
            one.disk.put("n.md", "one\ntwo\n")
            mesh.settle(2)
            mesh.part()
            _replace(one, "n.md", f"{word} one\ntwo\n")
            two.disk.put("n.md", f"{line}one\ntwo\n")
            mesh.pass_time(1)
            assert mesh.settle(2) == {"n.md": f"{line}{word} one\ntwo\n"}


def test_who_goes_on_with_a_last_line_of_another_parts_it_not(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.put("n.md", "one\nfor")
    mesh.pass_time(0.5)
    two.disk.put("n.md", "one\nforty")
    assert mesh.settle() == {"n.md": "one\nforty"}


@pytest.mark.parametrize(
    ("base", "put_in", "joined"),
    [("one\n", "one\ntwo\n", "onetwo\n"), ("x\nday\n", "x to\nday\n", "x today\n")],
)
def test_who_joins_words_of_another_parts_them_not_while_a_third_is_away(
    base: str, put_in: str, joined: str
) -> None:
    mesh = Mesh(3)
    mesh.join()
    one, two, _ = mesh.machines
    one.disk.put("n.md", base)
    mesh.settle(2)
    mesh.part()
    one.disk.put("n.md", put_in)
    mesh.network.link(0, 1)
    mesh.pass_time(2)
    two.disk.put("n.md", joined)
    mesh.pass_time(2)
    assert one.visible() == two.visible() == {"n.md": joined}
    assert mesh.settle(2) == {"n.md": joined}


def test_the_same_pull_in_sight_of_each_other_is_one(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "one\n")
    mesh.settle()
    for machine in mesh.machines:
        machine.pulled_at = mesh.network.now
        _replace(machine, "n.md", "one\ntwo\n")
        machine.work()
    assert mesh.settle() == {"n.md": "one\ntwo\n"}


def test_the_same_file_unpacked_in_sight_of_each_other_is_one(mesh: Mesh) -> None:
    """Programs that unpack remove the old file first; the new one may get its number at once."""
    mesh.machines[0].disk.put("n.md", "one\n")
    mesh.settle()
    numbers = [machine.disk.get("n.md").number for machine in mesh.machines]
    for machine in mesh.machines:
        machine.disk.unlink("n.md")
        machine.disk.put("n.md", "one\ntwo\n")
        machine.work()
    assert numbers == [machine.disk.get("n.md").number for machine in mesh.machines]
    assert mesh.settle() == {"n.md": "one\ntwo\n"}


def test_what_a_file_holds_is_merged_before_it_is_written_over(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    two.disk.put("n.md", "one\ntwo\n")

    def before(name: str, path: str) -> None:
        if name == "exchange":
            _allow(one)
            one.disk.put("n.md", "zero\none\n")

    one.files.before = before
    assert mesh.settle() == {"n.md": "zero\none\ntwo\n"}


@pytest.mark.parametrize("is_apart", [False, True])
def test_equal_first_versions_are_one_and_different_ones_keep_each_line_once(
    is_apart: bool,
) -> None:
    mesh = Mesh(3)
    if not is_apart:
        mesh.join()
    texts = ["a\nb\nc\n", "b\nc\nd\n", "b\nx\nc\n"]
    for machine, text in zip(mesh.machines, texts, strict=True):
        machine.disk.put("same.md", "same\n")
        machine.disk.put("n.md", text)
        machine.work()
    files = mesh.settle()
    assert files["same.md"] == "same\n"
    assert sorted(files["n.md"].split()) == ["a", "b", "c", "d", "x"]


@pytest.mark.parametrize(
    ("texts", "merged"),
    [
        (
            ["# t\n\nfoo\n\nbar\n", "# t\n\nbaz\n\nqux\n"],
            ["# t", "", "foo", "", "bar", "baz", "qux"],
        ),
        (["a {\n}\nb {\n}\n", "a {\n}\nc {\n}\n"], ["a {", "}", "b {", "}", "c {"]),
        (["x\nx\ny\n", "x\ny\nx\n"], ["x", "x", "y"]),
        (["one\ntwo", "three\nfour"], ["one", "two", "three", "four"]),
        (["one\ntwo", "zero\ntwo\n"], ["one", "two", "zero"]),
        (["\U0001f600\ntwo", "three\n\U0001f600"], ["\U0001f600", "two", "three"]),
    ],
)
@pytest.mark.parametrize("is_apart", [False, True])
def test_first_versions_that_were_made_apart_keep_each_line_as_often_as_one_had_it(
    texts: list[str], merged: list[str], is_apart: bool
) -> None:
    for machines in (texts, texts[::-1]):
        mesh = Mesh(2)
        for machine, text in zip(mesh.machines, machines, strict=True):
            machine.disk.put("n.md", text)
            machine.work()
        if is_apart:
            mesh.pass_time(2)
        assert sorted(mesh.settle()["n.md"].splitlines()) == sorted(merged)


@pytest.mark.parametrize(
    ("first", "edited", "other", "merged"),
    [
        ("a\nb\n", "a\nb\nc\n", "a\nb\nc\n", "a b c"),
        ("a\nb\n", "a\nc\nb\n", "a\nb\nc\nd\n", "a b c d"),
        ("a\n", "a\nc\nc\n", "c\n", "a c c"),
        ("a\n", "a\nc\n", "c\nc\nb\n", "a b c c"),
        ("c\nd\n", "c\nd\ng\n", "g\ng\n", "c d g g"),
    ],
)
def test_a_line_that_an_edit_brought_and_another_first_version_has_stands_once(
    first: str, edited: str, other: str, merged: str
) -> None:
    for number in (0, 1):  # which text stands first follows from the texts and from who has them
        mesh = Mesh(2)
        one, two = mesh.machines[number], mesh.machines[1 - number]
        one.disk.put("n.md", first)
        two.disk.put("n.md", other)
        mesh.pass_time(1)
        one.disk.put("n.md", edited)
        mesh.pass_time(2)
        assert sorted(mesh.settle()["n.md"].split()) == merged.split()


@pytest.mark.parametrize("seed", range(20))
def test_no_line_of_first_versions_that_were_edited_apart_is_lost(seed: int) -> None:
    random = Random(seed)
    mesh = Mesh(2 + seed % 2)
    lines = [f"line {letter}" for letter in "abcdefgh"] + ["", "same"]
    had: Counter[str] = Counter()
    for machine in mesh.machines:
        text = random.sample(lines, random.randint(1, 5))
        for _ in range(random.randint(1, 3)):
            machine.disk.put("n.md", "".join(f"{line}\n" for line in text))
            mesh.pass_time(0.3)
            text.insert(random.randrange(len(text) + 1), random.choice(lines))
        machine.disk.put("n.md", "".join(f"{line}\n" for line in text))
        mesh.pass_time(2)
        had |= Counter(text)
    assert had <= Counter(mesh.settle()["n.md"].splitlines())


def test_a_line_that_is_written_again_after_first_versions_met_stays(mesh: Mesh) -> None:
    mesh.part()
    for machine, text in zip(mesh.machines, ("same\n\nfoo\n", "same\n\nbar\n"), strict=True):
        machine.disk.put("n.md", text)
        machine.work()
    met = mesh.settle()["n.md"]
    assert sorted(met.splitlines()) == ["", "bar", "foo", "same"]
    for machine in mesh.machines:
        held = machine.disk.text("n.md")
        machine.disk.put("n.md", f"{held}\nsame\n")
        assert mesh.settle() == {"n.md": f"{held}\nsame\n"}


def test_a_first_version_without_an_end_stays_apart_from_one_that_was_edited() -> None:
    mesh = Mesh(2)
    one, two = mesh.machines
    names = [f"{number}.md" for number in range(8)]  # which of two stands first is by their ids
    for text in ("old\n", "older\nold\n", "one\nhead\n"):
        for name in names:
            one.disk.put(name, text)
        one.work()
    for name in names:
        two.disk.put(name, f"two of {name}")
    mesh.pass_time(2)
    for name, text in mesh.settle().items():
        assert sorted(text.splitlines()) == ["head", "one", f"two of {name}"]


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (("one\ntwo", "three\nfour"), ["four", "one", "three", "two"]),
        (
            ("# title\n\nwhat both have\none\n", "# title\n\nwhat both have\ntwo\n"),
            ["", "# title", "one", "two", "what both have"],
        ),
    ],
)
def test_a_deleted_file_that_is_made_again_apart_keeps_each_line_once(
    mesh: Mesh, texts: tuple[str, str], lines: list[str]
) -> None:
    for made in (texts, texts[::-1]):
        mesh.machines[0].disk.put("n.md", "old\n")
        mesh.settle()
        mesh.machines[0].disk.unlink("n.md")
        mesh.settle()
        mesh.part()
        for machine, text in zip(mesh.machines, made, strict=True):
            machine.disk.put("n.md", text)
        mesh.pass_time(2)
        assert sorted(mesh.settle()["n.md"].splitlines()) == lines


def test_files_without_an_end_that_meet_a_scroll_apart_keep_their_lines() -> None:
    mesh = Mesh(3)
    mesh.machines[0].disk.put("n.md", "one\n")
    mesh.machines[0].work()
    mesh.network.link_all()
    mesh.network.run(1)
    mesh.part()
    for machine, text in zip(mesh.machines[1:], ("two", "three"), strict=True):
        machine.disk.put("n.md", text)
        machine.work()
    assert sorted(mesh.settle()["n.md"].splitlines()) == ["one", "three", "two"]


def test_a_first_merge_is_told_and_kept_aside(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    one, two = mesh.machines
    mesh.part()
    one.disk.put("n.md", "a\n")
    two.work()
    mesh.pass_time(1)
    mesh.network.link_all()
    mesh.network.run(1)
    two.disk.put("n.md", "b\n")
    assert sorted(mesh.settle()["n.md"].split()) == ["a", "b"]
    assert "n.md: merged with other text" in caplog.text
    assert _kept_aside(two) == ["b\n"]


def test_texts_that_machines_began_apart_are_kept_aside_by_each(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.part()
    for machine, text in zip(mesh.machines, ("a\nb\n", "a\nc\n"), strict=True):
        machine.disk.put("n.md", text)
    mesh.pass_time(2)
    assert sorted(mesh.settle()["n.md"].split()) == ["a", "b", "c"]
    assert [_kept_aside(machine) for machine in mesh.machines] == [["a\nb\n"], ["a\nc\n"]]
    assert caplog.text.count("n.md: merged with other text") == 2
    mesh.machines[0].disk.put("n.md", mesh.machines[0].disk.files()["n.md"] + "d\n")
    mesh.settle()
    assert len(_kept_aside(mesh.machines[1])) == 1  # they agree from then on


def test_what_was_begun_apart_is_looked_for_once_a_change(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as the scroll has been written."""
    one, two = mesh.machines
    one.disk.put("n.md", "a\n")
    mesh.settle()
    looked: list[Coordinate] = []
    roots = Merging.roots

    def noted(merging: Merging, coordinate: Coordinate) -> tuple[int, ...]:
        looked.append(coordinate)
        return roots(merging, coordinate)

    monkeypatch.setattr(Merging, "roots", noted)
    two.disk.put("n.md", "a\nb\n")
    mesh.settle()
    assert looked == [_place(one, "n.md")]


def test_what_machines_began_apart_waits_where_it_cannot_be_kept_aside(mesh: Mesh) -> None:
    mesh.part()
    for machine, text in zip(mesh.machines, ("a\n", "b\n"), strict=True):
        machine.disk.put("n.md", text)
    mesh.pass_time(2)
    one = mesh.machines[0]
    _refuse(one, errno.EACCES, only=BACKUPS)
    mesh.join()
    mesh.pass_time(2)
    assert one.visible()["n.md"] == "a\n"
    assert "cannot be kept aside" in _problems(one)["n.md"]
    _allow(one)
    mesh.settle(RETRY_MAX_S)
    assert _kept_aside(one) == ["a\n"]
    assert not _problems(one)


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("refused", range(1, 8))
def test_what_is_kept_aside_is_whole_however_often_it_was_begun(
    mesh: Mesh, refused: int, is_killed: bool
) -> None:
    mesh.part()
    for machine, text in zip(mesh.machines, ("first of one\n", "first of two\n"), strict=True):
        machine.disk.put("n.md", text)
    mesh.pass_time(2)
    one = mesh.machines[0]
    calls = 0

    def before(name: str, path: str) -> None:
        nonlocal calls
        calls += path.startswith(BACKUPS) or BACKUPS in path
        if calls == refused:
            calls += 1
            if is_killed:
                _end()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one.files.before = before
    try:
        mesh.join()
        mesh.pass_time(2)
    except KeyboardInterrupt:
        one.files.end()
        mesh.network.crash(0)
        one.start()
    _allow(one)
    mesh.settle(RETRY_MAX_S)
    assert "first of one\n" in _kept_aside(one)
    assert set(_kept_aside(one)) <= {"first of one\n", "first of two\n"}


def test_a_new_file_at_whose_place_others_wrote_is_kept_aside(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", "a\n")
    mesh.settle()
    place = _place(one, "n.md")
    other = Mesh(1)
    (machine,) = other.machines
    other.pass_time(1)
    machine.peer.replica[place] = "b\n"  # its name is still on its way
    machine.disk.put("n.md", "c\n")
    other.pass_time(1)
    assert sorted(machine.visible()["n.md"].split()) == ["b", "c"]
    assert _kept_aside(machine) == ["c\n"]


def test_what_arrives_while_a_file_is_kept_aside_stays(mesh: Mesh) -> None:
    one, two = mesh.machines
    two.work()
    one.disk.put("n.md", "one was here\n")
    one.work()
    mesh.network.run(1)
    one.disk.put("n.md", "one was here\nthree was here\n")
    one.work()
    two.disk.put("n.md", "two was here\n")

    def before(name: str, path: str) -> None:
        if name == "create" and BACKUPS in path:
            mesh.network.run(0)

    two.files.before = before
    two.work()
    assert sorted(mesh.settle()["n.md"].splitlines()) == [
        *("one was here", "three was here", "two was here")
    ]


def test_what_comes_to_be_merged_while_another_is_kept_aside_is_kept_too(mesh: Mesh) -> None:
    one, two = mesh.machines
    two.work()
    one.disk.put("a.md", "one\n")
    one.disk.put("b.md", "two of b.md\n")
    one.work()
    mesh.network.run(1)
    one.disk.put("b.md", "one\n")
    one.work()
    for name in ("a.md", "b.md"):
        two.disk.put(name, f"two of {name}\n")

    def before(name: str, path: str) -> None:
        if name == "create" and BACKUPS in path:
            mesh.network.run(0)

    two.files.before = before
    two.work()
    assert sorted(mesh.settle()) == ["a.md", "b.md"]
    assert sorted(_kept_aside(two)) == ["two of a.md\n", "two of b.md\n"]


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_file_that_is_gone_or_emptied_for_a_moment_is_not_deleted(
    mesh: Mesh, is_emptied: bool
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    if is_emptied:
        one.disk.put("n.md", "")
    else:
        one.disk.rename("n.md", "n.md~")
    mesh.pass_time(GRACE_S - 0.5)
    assert two.visible() == {"n.md": "one\n"}
    one.disk.put("n.md", "one\ntwo\n")
    assert mesh.settle() == {"n.md": "one\ntwo\n"}
    one.disk.unlink("n.md")
    mesh.pass_time(0.5)
    assert one.binding is not None
    assert one.binding.situation().waiting == 1
    assert mesh.settle() == {}


@pytest.mark.parametrize("is_named", [False, True])
def test_a_text_that_arrives_for_a_new_file_while_it_is_read_meets_it(is_named: bool) -> None:
    mesh = Mesh(2)
    one, two = mesh.machines
    mesh.pass_time(0.2)
    if is_named:  # the name comes first, and the text when the other is being read
        one.disk.put("n.md", "gone\n")
        mesh.pass_time(0.2)
        one.disk.unlink("n.md")
        mesh.pass_time(3)
        mesh.join()
        mesh.part()
    one.disk.put("n.md", "one\n")
    mesh.pass_time(0.2)
    two.disk.put("n.md", "two\n")

    def arrives(name: str, path: str) -> None:
        if path == "n.md":
            mesh.network.link_all()
            mesh.network.run(0.1)

    two.files.before = arrives
    two.work()
    _allow(two)
    texts = mesh.settle()
    assert [*texts] == ["n.md"]
    assert sorted(texts["n.md"].splitlines()) == ["one", "two"]


def test_a_slow_save_of_what_somebody_deletes_meanwhile_is_no_new_file(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    two.disk.unlink("n.md")
    mesh.pass_time(GRACE_S - 0.2)
    one.disk.rename("n.md", "n.md~")
    mesh.pass_time(0.8)
    one.disk.put("n.md", "one\ntwo\n")
    assert mesh.settle() == {"n.md": "two\n"}


def test_a_deletion_and_a_change_made_apart_keep_the_change(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    mesh.part()
    one.disk.unlink("n.md")
    two.disk.put("n.md", "one\ntwo\n")
    mesh.pass_time(3)
    assert mesh.settle() == {"n.md": "two\n"}
    two.disk.put("n.md", "two\nthree\n")
    assert mesh.settle() == {"n.md": "two\nthree\n"}


def test_a_file_that_was_never_here_is_written_and_not_deleted(mesh: Mesh) -> None:
    one, two = mesh.machines
    _refuse(two, errno.ENOSPC)
    one.disk.put("n.md", "one\n")
    mesh.pass_time(5)
    assert "the disk is full" in _problems(two)["n.md"]
    two.start()
    mesh.pass_time(5)
    assert one.visible() == {"n.md": "one\n"}
    _allow(two)
    assert mesh.settle(20) == {"n.md": "one\n"}
    assert not _problems(two)


def test_a_write_that_is_refused_takes_nothing_back(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    for number in (errno.ENOSPC, errno.EROFS, errno.EPERM, errno.EIO, errno.EMFILE):
        _refuse(two, number)
        text = one.visible()["n.md"] + f"{number}\n"
        one.disk.put("n.md", text)
        mesh.pass_time(5)
        assert os.strerror(number) in _problems(two)["n.md"]
        assert two.binding is not None
        assert len(two.binding.problems.take_news()) == 1
        assert (one.visible()["n.md"], two.visible()["n.md"]) == (text, text[:-3].rstrip() + "\n")
        _allow(two)
        assert mesh.settle(20) == {"n.md": text}


@pytest.mark.parametrize("has_exchange", [True, False])
@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("change", ["edit", "rename", "delete"])
def test_what_is_refused_from_a_call_on_takes_nothing_back_and_is_done_once(
    has_exchange: bool, has_links: bool, change: str
) -> None:
    for number in range(12):
        mesh = Mesh(2)
        one = mesh.machines[0]
        two = Machine(mesh.network, 1, has_exchange=has_exchange, has_links=has_links)
        mesh.machines[1] = two
        one.disk.put("n.md", "one\n")
        mesh.settle()
        calls = 0

        def before(name: str, path: str, limit: int = number) -> None:
            nonlocal calls
            if name not in ("stat", "fstat", "readdir", "read") and path != MARKER_FILE:
                calls += 1
                if calls > limit:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

        two.files.before = before
        if change == "edit":
            one.disk.put("n.md", "one\ntwo\n")
        elif change == "rename":
            one.disk.rename("n.md", "other.md")
        else:
            one.disk.unlink("n.md")
        mesh.pass_time(3)
        if change == "edit":
            one.disk.put("n.md", "zero\none\ntwo\n")
        mesh.pass_time(3)
        _allow(two)
        files = mesh.settle(40)  # in which the directory is looked through
        assert (
            files
            == {
                "edit": {"n.md": "zero\none\ntwo\n"},
                "rename": {"other.md": "one\n"},
                "delete": {},
            }[change]
        ), number
        assert {*two.disk.files()} == {*files, MARKER_FILE}


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.parametrize("text", ["of its own\n", "zero\none\n"])
def test_a_file_that_is_made_while_another_lies_aside_takes_nothing_of_it_away(
    is_refused: bool, text: str
) -> None:
    mesh = Mesh(2)
    one, two = mesh.machines[0], Machine(mesh.network, 1, has_exchange=False, has_links=False)
    mesh.machines[1] = two
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.put("n.md", "one\ntwo\n")
    is_made = False

    def before(name: str, path: str) -> None:
        nonlocal is_made
        if two.disk.find("n.md") is None and name in ("link", "rename") and not is_made:
            if is_refused:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            is_made = True
            two.disk.put("n.md", text)

    two.files.before = before
    mesh.pass_time(1)
    if is_refused:
        assert two.disk.find("n.md") is None
        two.disk.put("n.md", text)
    _allow(two)
    lines = mesh.settle(20)["n.md"].splitlines()
    assert sorted(lines) == sorted({"one", "two", *text.splitlines()})
    kept = {path for path in two.disk.files() if not path.startswith(BACKUPS)}
    assert kept == {"n.md", MARKER_FILE}


def test_a_file_that_is_renamed_and_changed_line_by_line_is_that_file(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\ntwo\nthree\nfour\n")
    mesh.settle()
    one.disk.rename("n.md", "m.md")
    two.disk.put("n.md", "one\ntwo\nthree\n")
    for text in ("1\ntwo\nthree\nfour\n", "1\n2\nthree\nfour\n", "1\n2\n3\nfour\n"):
        mesh.pass_time(0.2)
        _replace(one, "m.md", text)
    mesh.pass_time(0.2)
    one.disk.rename("m.md", "o.md")
    mesh.pass_time(0.2)
    _replace(one, "o.md", "1\n2\n3\nfour\n5\n")
    assert mesh.settle() == {"o.md": "1\n2\n3\n5\n"}


def test_a_file_that_is_renamed_again_is_not_the_one_that_took_its_place(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\ntwo\nthree\nfour\n")
    mesh.settle()
    one.disk.rename("n.md", "m.md")
    two.disk.put("n.md", "one\ntwo\nthree\n")
    mesh.pass_time(0.2)
    one.disk.rename("m.md", "o.md")
    one.disk.put("m.md", "of another kind\n")
    assert mesh.settle() == {"m.md": "of another kind\n", "o.md": "one\ntwo\nthree\n"}


def test_a_file_that_is_written_in_parts_loses_nothing_meanwhile(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\ntwo\nthree\n")
    mesh.settle()
    one.disk.put("n.md", "zero\none\ntw")
    mesh.pass_time(GRACE_S / 2)
    assert two.disk.text("n.md") == "one\ntwo\nthree\n"
    two.disk.put("n.md", "one\ntwo\nthree and more\n")
    one.disk.put("n.md", "zero\none\ntwo\nthree\n")
    assert mesh.settle() == {"n.md": "zero\none\ntwo\nthree and more\n"}
    one.disk.put("n.md", "zero\non")  # and it stays so
    assert mesh.settle() == {"n.md": "zero\non"}


def test_a_file_that_is_emptied_for_a_moment_while_it_cannot_be_removed_is_not_new(
    mesh: Mesh,
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\ntwo\n")
    mesh.settle()

    def before(name: str, path: str) -> None:
        if name == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    two.files.before = before
    one.disk.unlink("n.md")
    mesh.pass_time(3)
    assert two.visible() == {"n.md": "one\ntwo\n"}
    two.disk.put("n.md", "")
    two.work()
    two.disk.put("n.md", "one\n")
    _allow(two)
    assert mesh.settle() == {}


def test_a_file_that_takes_the_place_of_one_just_written_brings_its_marks(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()

    def before(name: str, path: str) -> None:
        if (name, path) == ("open", "n.md") and two.disk.text("n.md") == "one\ntwo\n":
            _allow(two)
            _replace(two, "n.md", "one\ntwo\n#!\n")
            two.disk.set_mode("n.md", 0o755)

    two.files.before = before
    one.disk.put("n.md", "one\ntwo\n")
    assert mesh.settle() == {"n.md": "one\ntwo\n#!\n"}
    assert [machine.disk.get("n.md").mode & 0o100 for machine in mesh.machines] == [0o100] * 2


def test_one_name_that_cannot_be_written_holds_up_no_other(mesh: Mesh) -> None:
    one, two = mesh.machines
    _refuse(two, errno.ENAMETOOLONG, only="long")
    for name in ("a.md", "long/n.md", "z.md"):
        one.disk.make_folders("long")
        one.disk.put(name, f"{name}\n")
    mesh.pass_time(3)
    assert two.visible() == {"a.md": "a.md\n", "z.md": "z.md\n"}
    assert list(_problems(two)) == ["long/n.md"]


def test_a_crash_before_or_after_a_file_took_its_place_loses_and_doubles_nothing() -> None:
    for has_exchange in (True, False):
        for number in range(26, 38):
            mesh = Mesh(1)
            machine = Machine(mesh.network, 0, has_exchange=has_exchange)
            mesh.machines = [machine]
            machine.disk.put("n.md", "one\n")
            mesh.settle()
            _AtCall(machine, number, _end)
            machine.peer.replica.append(_place(machine, "n.md"), "two\n")
            try:
                machine.work()
            except KeyboardInterrupt:
                pass
            else:
                break
            _allow(machine)
            mesh.network.crash(0)
            machine.start()
            is_durable = "two\n" in machine.peer.replica[_place_in(machine)]
            assert mesh.settle() == {"n.md": "one\ntwo\n" if is_durable else "one\n"}, number
        assert number > 10


@pytest.mark.parametrize("has_exchange", [True, False])
@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_saved_at_any_moment_of_a_write_stays(has_exchange: bool, has_links: bool) -> None:
    for number in range(1, 60):
        mesh = Mesh(1, has_exchange=has_exchange, has_links=has_links)
        (machine,) = mesh.machines
        disk = machine.disk
        disk.put("n.md", "one\n")
        mesh.settle()

        def save(machine: Machine = machine) -> None:
            if machine.disk.text("n.md") == "one\n":
                _replace(machine, "n.md", "zero\none\n")

        _AtCall(machine, number, save)
        machine.peer.replica.append(_place(machine, "n.md"), "two\n")
        mesh.pass_time(1)
        if disk.text("n.md") == "one\ntwo\n":
            break
        assert mesh.settle() == {"n.md": "zero\none\ntwo\n"}, number
    assert 10 < number < 59


@pytest.mark.parametrize("has_exchange", [True, False])
@pytest.mark.parametrize("is_killed", [True, False])
def test_what_is_saved_while_a_file_is_written_and_the_store_is_full_stays(
    has_exchange: bool, is_killed: bool
) -> None:
    refused = 0
    for number in range(1, 60):
        mesh = Mesh(1, has_exchange=has_exchange)
        (machine,) = mesh.machines
        disk = machine.disk
        disk.put("n.md", "one\n")
        mesh.settle()

        def save(machine: Machine = machine) -> None:
            nonlocal refused
            if machine.disk.text("n.md") == "one\n":
                machine.disk.put("n.md", "zero\none\n")
                machine.peer.replica[_OUTSIDE] = "something else"
                machine.peer.is_disk_full = True
                machine.peer.commit()
                refused += 1

        _AtCall(machine, number, save)
        machine.peer.replica.append(_place(machine, "n.md"), "two\n")
        mesh.pass_time(1)
        if disk.text("n.md") == "one\ntwo\n" and not machine.peer.is_disk_full:
            break
        if is_killed:
            mesh.network.crash(0)
            machine.start()
        mesh.pass_time(1)
        machine.peer.is_disk_full = False
        (text,) = mesh.settle(30).values()
        assert text == "zero\none\ntwo\n", number
    assert 10 < number < 59
    assert refused > 5


def _place_in(machine: Machine) -> Coordinate:
    (place,) = (c for c in machine.peer.replica.coordinates(RANGE) if c != _MAP)
    return place


def test_a_rename_keeps_the_scroll_and_what_was_written_meanwhile(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("old.md", "one\n")
    mesh.settle()
    place = _place(one, "old.md")
    mesh.part()
    one.disk.make_folders("new")
    one.disk.rename("old.md", "new/name.md")
    two.disk.put("old.md", "one\ntwo\n")
    mesh.pass_time(3)
    assert mesh.settle() == {"new/name.md": "one\ntwo\n"}
    assert one.peer.replica[place] == "one\ntwo\n"
    one.disk.put("old.md", "another\n")
    assert mesh.settle() == {"new/name.md": "one\ntwo\n", "old.md": "another\n"}


@pytest.mark.parametrize("is_copied", [False, True])
def test_files_of_one_text_keep_their_scrolls_when_their_folder_is_renamed(
    mesh: Mesh, is_copied: bool
) -> None:
    one, two = mesh.machines
    names = ["gamma.md", "beta.md", "alpha.md"]
    one.disk.make_folders("old")
    for name in names:
        one.disk.put(f"old/{name}", "# a template\n")
        mesh.settle()
    mesh.part()
    if is_copied:
        one.disk.make_folders("new")
        for name in names:
            one.disk.put(f"new/{name}", "# a template\n")
        one.disk.remove_tree("old")
    else:
        one.disk.rename("old", "new")
    for name in names:
        two.disk.put(f"old/{name}", f"# a template\n{name}\n")
    mesh.pass_time(3)
    assert mesh.settle() == {f"new/{name}": f"# a template\n{name}\n" for name in names}


def test_a_file_that_has_to_make_room_is_not_taken_for_the_one_that_comes(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("2026-11-25.md", "one\n")
    mesh.settle()
    mesh.part()
    one.disk.rename("2026-11-25.md", "m.md")
    two.disk.put("m.md", "one\n")
    mesh.pass_time(1)
    two.disk.put("2026-11-25.md", "two\n")
    mesh.pass_time(2)
    assert mesh.settle(8) == {"m.md": "one\n", "m.md~2": "two\n"}


def test_a_name_that_one_uses_again_after_both_renamed_its_file_is_another(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("2026-11-25.md", "one\n")
    mesh.settle()
    mesh.part()
    one.disk.rename("2026-11-25.md", "m.md")
    two.disk.rename("2026-11-25.md", "m.md")
    mesh.pass_time(1)
    two.disk.put("2026-11-25.md", "two\n")
    mesh.pass_time(2)
    assert mesh.settle(8) == {"m.md": "one\n", "2026-11-25.md": "two\n"}


def test_the_same_rename_on_two_machines_is_one(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("old.md", "one\n")
    mesh.settle()
    mesh.part()
    for machine in mesh.machines:
        machine.disk.rename("old.md", "new.md")
    mesh.pass_time(3)
    assert mesh.settle() == {"new.md": "one\n"}


def test_a_name_that_is_used_again_is_another_scroll(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("2026-11-25.md", "old\n")
    mesh.settle()
    two.disk.rename("2026-11-25.md", "kept.md")
    mesh.pass_time(2)
    two.disk.put("2026-11-25.md", "new\n")
    assert mesh.settle() == {"2026-11-25.md": "new\n", "kept.md": "old\n"}


def test_a_name_that_is_used_again_after_both_renamed_it_is_another_scroll(mesh: Mesh) -> None:
    _, two = mesh.machines
    two.disk.put("n.md", "one\n")
    mesh.settle()
    for machine in mesh.machines:
        machine.disk.rename("n.md", "m.md")
    mesh.pass_time(3)
    two.disk.put("n.md", "new\n")
    assert mesh.settle() == {"m.md": "one\n", "n.md": "new\n"}


def test_a_file_in_place_of_a_folder_waits_not_for_what_has_an_odd_name(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.disk.create("a", "folder")
    one.disk.put("a/b", "one\n")
    mesh.settle()
    one.disk.rename("a/b", "line\nend.md")
    one.disk.remove_folder("a")
    mesh.pass_time(3)
    one.disk.put("a", "two\n")
    mesh.pass_time(3)
    assert mesh.machines[1].visible() == {"a/b": "one\n", "a~file": "two\n"}


def test_a_rename_that_cannot_reach_the_disk_deletes_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.rename("n.md", "m.md")

    def before(name: str, path: str) -> None:
        if name == "fsync" and path == "m.md":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    one.files.before = before
    mesh.pass_time(5)
    assert two.visible() == {"n.md": "one\n"}
    two.disk.put("n.md", "one\ntwo\n")
    mesh.pass_time(2)
    _allow(one)
    assert mesh.settle(10) == {"m.md": "one\ntwo\n"}


def test_a_rename_to_a_name_that_cannot_be_kept_deletes_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.rename("n.md", "line\nend.md")
    mesh.pass_time(5)
    mesh.network.crash(0)
    one.start()
    mesh.pass_time(5)
    assert two.visible() == {"n.md": "one\n"}
    assert "rename it" in _problems(one)["line\nend.md"]
    assert one.binding is not None
    assert one.binding.situation().waiting == 0
    two.disk.put("n.md", "one\ntwo\n")
    mesh.pass_time(2)
    one.disk.rename("line\nend.md", "m.md")
    assert mesh.settle() == {"m.md": "one\ntwo\n"}
    one.disk.rename("m.md", "line\nend.md")
    mesh.pass_time(5)
    one.disk.unlink("line\nend.md")
    assert mesh.settle() == {}
    assert not _problems(one)


def test_files_are_written_soon_when_a_disk_has_room_again(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.room = 0
    for number in range(5):
        two.disk.put(f"{number}.md", f"{number}\n")
    mesh.pass_time(100)
    assert "the disk is full" in _problems(one)["4.md"]
    one.disk.room = None
    assert len(mesh.settle(2.5)) == 5


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("is_folder_then", [False, True])
def test_what_waits_for_a_folder_is_written_as_soon_as_what_was_in_its_place_is_gone(
    mesh: Mesh, kind: Kind, is_folder_then: bool
) -> None:
    one, two = mesh.machines
    one.disk.create("sub", kind)
    two.disk.make_folders("sub")
    two.disk.put("sub/n.md", "first\n")
    mesh.pass_time(100)
    assert set(_problems(one)) == {"sub", "sub/n.md"}
    one.disk.unlink("sub")
    if is_folder_then:
        one.disk.make_folders("sub")
    assert mesh.settle(0.5) == {"sub/n.md": "first\n"}
    assert not _problems(one)


def test_a_file_that_is_back_was_not_renamed(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.disk.put("n.md", "one of many\nas all are\n")
    mesh.settle()
    place, number = _place(one, "n.md"), one.disk.get("n.md").number
    one.disk.rename("n.md", "line\nend.md")
    mesh.pass_time(5)
    one.disk.unlink("line\nend.md")
    one.disk.put("a.md", "another of many\nas all are\n")
    one.disk.put("n.md", "one of many\nas all are\n")
    assert one.disk.get("a.md").number == number  # it is used again
    mesh.settle()
    assert _place(one, "n.md") == place != _place(one, "a.md")


def test_a_file_that_is_put_back_beside_one_that_is_like_it_stays_that_file(mesh: Mesh) -> None:
    one, _ = mesh.machines
    texts = {f"{i}.md": f"file {i}\nas all are\n" for i in range(24)}
    for name, text in texts.items():
        one.disk.put(name, text)
    mesh.settle()
    place = _place(one, "7.md")
    for name in texts:
        one.disk.unlink(name)
    mesh.pass_time(5)  # the deletion is held
    for name, text in texts.items():
        one.disk.put(name, text)
    one.disk.put("7b.md", texts["7.md"])
    assert mesh.settle() == {**texts, "7b.md": texts["7.md"]}
    assert one.binding is not None
    assert [*one.binding.naming.map.places_of("7.md")] == [place] != [_place(one, "7b.md")]


def test_a_renamed_file_that_cannot_be_read_yet_is_not_deleted(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    place = _place(one, "n.md")

    def before(name: str, path: str) -> None:
        if name == "open" and path == "other.md":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    one.files.before = before
    one.disk.rename("n.md", "other.md")
    mesh.pass_time(5)
    assert os.strerror(errno.EIO) in _problems(one)["other.md"]
    assert two.visible() == {"n.md": "one\n"}
    _allow(one)
    assert mesh.settle(20) == {"other.md": "one\n"}
    assert _place(two, "other.md") == place
    one.disk.unlink("other.md")
    assert mesh.settle() == {}


def test_a_save_while_a_file_gets_another_path_stays() -> None:
    for has_exchange in (True, False):
        for number in range(26, 38):
            mesh = Mesh(2)
            one = mesh.machines[0]
            two = Machine(mesh.network, 1, has_exchange=has_exchange)
            mesh.machines[1] = two
            one.disk.put("n.md", "one\n")
            mesh.settle()
            one.disk.rename("n.md", "other.md")

            saved: list[str] = []

            def save(machine: Machine = two, saved: list[str] = saved) -> None:
                if machine.disk.find("n.md") is not None:
                    _replace(machine, "n.md", "one\nsaved\n")
                    saved.append("saved")

            _AtCall(two, number, save)
            mesh.pass_time(3)
            _allow(two)
            files = mesh.settle(8)
            assert {*"".join(files.values()).split()} == {"one", *saved}, (has_exchange, number)


def test_a_file_that_is_emptied_while_it_is_replaced_is_not_deleted() -> None:
    for number in range(34, 42):
        mesh = Mesh(2)
        one, two = mesh.machines
        mesh.join()
        one.disk.put("n.md", "one\n")
        mesh.pass_time(1)
        one.disk.put("n.md", "one\ntwo\n")
        _AtCall(two, number, partial(two.disk.put, "n.md", ""))
        mesh.pass_time(1)
        assert "one" in one.visible()["n.md"], number
        _allow(two)
        two.disk.put("n.md", "one\nthree\n")
        mesh.pass_time(6)
        assert {"one", "three"} <= {*one.visible()["n.md"].split()}, number
        assert one.visible() == two.visible()


def test_a_name_that_cannot_be_kept_holds_no_other_that_is_deleted_elsewhere(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.rename("n.md", "line\nend.md")
    mesh.pass_time(5)
    two.disk.unlink("n.md")
    mesh.pass_time(5)
    two.disk.put("m.md", "other\n")
    mesh.pass_time(1)
    two.disk.rename("m.md", "n.md")
    mesh.pass_time(5)
    assert one.disk.text("n.md") == two.disk.text("n.md") == "other\n"
    assert one.disk.text("line\nend.md") == "one\n"
    assert one.binding is not None
    assert one.binding.situation().waiting == 0
    assert not one.is_due()


def test_a_file_with_the_number_of_one_that_is_gone_is_another(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "what stood in the first of them\n")
    mesh.settle()
    place, number = _place(one, "n.md"), one.disk.get("n.md").number
    one.disk.unlink("n.md")
    one.disk.put("other.md", "nothing like that here\n")
    assert one.disk.get("other.md").number == number
    assert mesh.settle() == {"other.md": "nothing like that here\n"}
    assert _place(one, "other.md") != place
    assert not two.peer.replica.get(place, "")


@pytest.mark.parametrize("text", ["one\ntwo\n", "zero\n\none and more\n one\ntwo\n"])
def test_a_tiny_file_saved_under_another_name_meanwhile_is_renamed(mesh: Mesh, text: str) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    place = _place(one, "n.md")
    one.files.end()
    mesh.network.crash(0)
    one.disk.put("m.md", text)
    one.disk.unlink("n.md")
    two.disk.put("n.md", "one\nthree\n")
    mesh.pass_time(3)
    one.start()
    settled = mesh.settle()
    assert list(settled) == ["m.md"]
    assert sorted(settled["m.md"].splitlines()) == sorted([*text.splitlines(), "three"])
    assert _place(one, "m.md") == place


def test_a_file_that_lacks_a_line_of_a_tiny_one_that_is_gone_is_another(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.disk.put("n.md", "one\ntwo\n")
    mesh.settle()
    place = _place(one, "n.md")
    one.files.end()
    mesh.network.crash(0)
    one.disk.put("m.md", "one\nthree\n")
    one.disk.unlink("n.md")
    one.start()
    assert mesh.settle() == {"m.md": "one\nthree\n"}
    assert _place(one, "m.md") != place


def test_a_file_and_a_folder_of_one_name_are_both_kept(mesh: Mesh) -> None:
    one, two = mesh.machines
    mesh.part()
    one.disk.put("a", "file\n")
    two.disk.make_folders("a")
    two.disk.put("a/b.md", "below\n")
    mesh.pass_time(2)
    assert mesh.settle() == {"a/b.md": "below\n", "a~file": "file\n"}
    one.disk.put("a~file", "file\nmore\n")
    two.disk.unlink("a/b.md")
    assert mesh.settle(10) == {"a": "file\nmore\n"}


def test_a_file_that_goes_into_a_folder_of_its_name_does_so_everywhere(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("a", "one\n")
    mesh.settle()
    one.disk.rename("a", "a.tmp")
    one.disk.create("a", "folder")
    one.disk.rename("a.tmp", "a/index.md")
    assert mesh.settle() == {"a/index.md": "one\n"}
    assert not _problems(one)
    assert not _problems(two)


def test_an_empty_file_holds_up_nothing_that_comes_to_its_place(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    one.disk.put("m.md", "two\n")
    mesh.settle()
    two.disk.create("new.md")
    two.disk.create("a")
    one.disk.rename("n.md", "new.md")
    one.disk.create("a", "folder")
    one.disk.rename("m.md", "a/m.md")
    assert mesh.settle() == {"new.md": "one\n", "a/m.md": "two\n"}


def test_a_file_that_goes_to_another_file_system_does_so_everywhere(mesh: Mesh) -> None:
    one, two = mesh.machines
    two.disk.make_folders("mnt")
    two.disk.mount("mnt")
    one.disk.make_folders("mnt")
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.rename("n.md", "mnt/n.md")
    assert mesh.settle() == {"mnt/n.md": "one\n"}
    assert two.disk.get("mnt/n.md").device != two.disk.get("").device


def test_what_was_below_a_folder_that_is_a_file_now_is_no_problem(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.make_folders("a")
    one.disk.put("a/b", "one\n")
    mesh.settle()
    one.disk.remove_tree("a")
    mesh.settle()
    one.disk.put("a", "two\n")
    one.disk.on_change("a/b")
    assert mesh.settle() == {"a": "two\n"}
    assert not _problems(one)


def test_what_is_ignored_from_now_on_waits_for_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    one.disk.put("odd", "\x17")
    mesh.pass_time(1)
    assert list(_problems(one)) == ["odd"]
    one.disk.unlink("n.md")
    mesh.pass_time(0.5)
    two.disk.put(".phextsyncignore", "odd\nn.md\n")
    mesh.settle()
    assert not _problems(one)
    assert one.binding is not None
    assert one.binding.situation().waiting == 0


def test_a_file_that_was_emptied_has_the_marks_of_its_line_again(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("run.sh", "one\n")
    mesh.settle()
    one.disk.set_mode("run.sh", 0o755)
    one.disk.put("run.sh", "")
    mesh.settle()
    one.disk.put("run.sh", "two\n")
    mesh.settle()
    assert two.disk.get("run.sh").mode & 0o111
    one.disk.put("run.sh", "")
    two.disk.put("run.sh", "two\nthree\n")
    two.disk.set_mode("run.sh", 0o644)
    mesh.settle()
    assert not one.disk.get("run.sh").mode & 0o111


def test_marks_that_changed_with_a_name_travel(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("a.sh", "one\n")
    mesh.settle()
    one.disk.rename("a.sh", "b.sh")
    one.disk.set_mode("b.sh", 0o755)
    mesh.settle()
    assert two.disk.get("b.sh").mode & 0o111


@pytest.mark.parametrize("count", [1, 30])
def test_nothing_that_was_sent_goes_with_the_power(count: int) -> None:
    for seed in range(6):
        mesh = Mesh(2)
        mesh.join()
        one = mesh.machines[0]
        for number in range(count):
            one.disk.put(f"{number}.md", "one\n")
        one.disk.put("gone.md", "gone\n")
        mesh.settle()
        for number in range(count):
            _replace(one, f"{number}.md", "one\ntwo\n")
        one.disk.unlink("gone.md")
        mesh.pass_time(3)
        one.files.end()
        one.disk.cut_power(Random(seed))
        mesh.network.crash(0)
        one.start()
        assert mesh.settle() == {f"{number}.md": "one\ntwo\n" for number in range(count)}


@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("name", ["old.md", "new.md"])
def test_what_is_made_once_more_after_a_crash_is_there_once(
    mesh: Mesh, name: str, is_replaced: bool
) -> None:
    one = mesh.machines[0]
    one.disk.put("old.md", "one\n")
    mesh.settle()

    def is_killed() -> None:
        while mesh.network.step():
            pass
        raise KeyboardInterrupt

    for text in ("one\ntwo\n", "one\ntwo\nthree\n"):
        one.before_commit = is_killed
        save = _replace if is_replaced else lambda machine, path, text: machine.disk.put(path, text)
        save(one, name, text)
        with pytest.raises(KeyboardInterrupt):
            one.work()
        mesh.network.crash(0)
        one.before_commit = lambda: None
        one.start()
        one.work()
        assert mesh.settle() == {"old.md": "one\n"} | {name: text}


@pytest.mark.parametrize("added", ["", "added\n"])
def test_a_file_that_replaces_a_folder_lies_where_it_was_written(mesh: Mesh, added: str) -> None:
    one, two = mesh.machines
    one.disk.make_folders("a/b")
    for name in ("a/x.md", "a/b/y.md"):
        one.disk.put(name, "old\n")
    mesh.settle()
    one.disk.remove_tree("a")
    one.disk.put("a", "one\n")
    mesh.pass_time(0.5)
    one.disk.put("a", "one\ntwo\n")
    mesh.pass_time(0.3)
    assert one.disk.text("a") == "one\ntwo\n"
    two.disk.put("a/x.md", f"old\n{added}")
    both = {"a/x.md": added, "a~file": "one\ntwo\n"}
    assert mesh.settle(10) == (both if added else {"a": "one\ntwo\n"})


def test_a_file_may_take_the_name_of_the_folder_that_it_lay_in(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.disk.make_folders("a")
    one.disk.put("a/x.md", "kept\n")
    one.disk.put("a/y.md", "gone\n")
    mesh.settle()
    place = _place(one, "a/x.md")
    one.disk.rename("a/x.md", "aside.tmp")
    one.disk.remove_tree("a")
    one.disk.rename("aside.tmp", "a")
    mesh.pass_time(5)
    assert one.visible() == {"a": "kept\n"}
    assert _place(one, "a") == place


def test_a_file_takes_the_name_of_the_folder_that_it_lay_in_elsewhere_too(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.make_folders("a/b")
    one.disk.put("a/b/x.md", "kept\n")
    mesh.settle()
    two.disk.put("a/.hidden", "kept too\n")
    one.disk.rename("a/b/x.md", "aside.tmp")
    one.disk.remove_tree("a")
    one.disk.rename("aside.tmp", "a")
    mesh.pass_time(5)
    assert two.visible() == {"a/b/x.md": "kept\n"}
    assert "a folder is in the place of a file" in _problems(two)["a/b/x.md"]
    two.disk.unlink("a/.hidden")
    mesh.pass_time(60)
    assert mesh.settle() == {"a": "kept\n"}
    assert not _problems(two)


@pytest.mark.parametrize("loses_power", [True, False])
def test_a_crash_while_a_file_takes_the_name_of_its_folder_loses_nothing(
    loses_power: bool,
) -> None:
    for number in range(1, 120, 3):
        mesh = Mesh(1)
        (machine,) = mesh.machines
        machine.disk.make_folders("a/b")
        machine.disk.put("a/b/x.md", "kept\n")
        mesh.settle()
        machine.disk.sync_all()
        machine.peer.replica.replace(_MAP, " a/b/x.md", " a")
        machine.peer.commit()
        crash = _AtCall(machine, number, _end)
        try:
            mesh.pass_time(1)
        except KeyboardInterrupt:
            _allow(machine)
            mesh.network.crash(0)
            machine.files.end()
            if loses_power:
                machine.disk.cut_power(Random(number))
            machine.start()
        assert mesh.settle(10) == {"a": "kept\n"}, number
        assert not _problems(machine), number
        if crash.calls < number:
            break
    assert number > 60


def test_files_of_a_renamed_folder_are_not_read_again_while_the_old_ones_may_come_back(
    mesh: Mesh,
) -> None:
    one, _ = mesh.machines
    one.disk.make_folders("old")
    for number in range(5):
        one.disk.put(f"old/{number}.md", f"text {number}\n")
    mesh.settle()
    reads: Counter[str] = Counter()
    one.files.before = lambda name, path: reads.update([path] if name == "open" else [])
    one.disk.rename("old", "new")
    assert mesh.settle() == {f"new/{number}.md": f"text {number}\n" for number in range(5)}
    assert max(reads.values()) < 10


def test_what_is_no_longer_ignored_is_looked_at_at_once(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.log", "one\n")
    one.disk.put("old.log", "old\n")
    mesh.settle()
    one.disk.put(IGNORE_FILE, "*.log\n")
    mesh.settle()
    one.disk.put("new.log", "new\n")
    one.disk.put("n.log", "one\ntwo\n")
    two.disk.put("n.log", "zero\none\n")
    two.disk.unlink("old.log")
    mesh.settle()
    one.disk.unlink(IGNORE_FILE)
    assert mesh.settle() == {"n.log": "zero\none\ntwo\n", "new.log": "new\n"}


def test_a_file_whose_name_becomes_an_ignored_one_stays_and_follows(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.peer.replica.replace(_MAP, " n.md", " n.bak")
    mesh.settle()
    one.disk.put("n.md", "one\ntwo\n")
    mesh.settle()
    two.disk.put("n.md", "zero\none\ntwo\n")
    assert mesh.settle() == {"n.md": "zero\none\ntwo\n"}


def test_a_renamed_file_is_not_new_while_it_cannot_be_told_that_the_old_one_is_gone(
    mesh: Mesh,
) -> None:
    one = mesh.machines[0]
    one.disk.make_folders("x")
    one.disk.put("x/y", "one\ntwo\n")
    mesh.settle()
    place = _place(one, "x/y")

    def before(name: str, path: str) -> None:
        if (name, path) == ("fsync", ""):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    one.files.before = before
    one.disk.rename("x", "moved")
    one.disk.put("moved/y", "one\ntwo\nthree\n")
    mesh.pass_time(3)
    assert _problems(one)["moved/y"].endswith("it is gone: x/y")
    _allow(one)
    assert mesh.settle(8) == {"moved/y": "one\ntwo\nthree\n"}
    assert _place(one, "moved/y") == place
    assert not _problems(one)


def test_an_ignored_file_that_is_emptied_is_written_where_it_is_renamed_elsewhere(
    mesh: Mesh,
) -> None:
    one, two = mesh.machines
    one.disk.put("n.log", "one\n")
    mesh.settle()
    one.disk.put(IGNORE_FILE, "*.log\n")
    mesh.settle()
    two.disk.put("n.log", "")
    one.peer.replica.replace(_MAP, " n.log", " n.md")
    assert mesh.settle() == {IGNORE_FILE: "*.log\n", "n.md": "one\n"}


@pytest.mark.parametrize("saved", [{}, {"n.md": "one\ntwo\n"}])
def test_a_file_that_gets_an_ignored_name_goes_elsewhere_and_what_is_saved_there_stays(
    mesh: Mesh, saved: dict[str, str]
) -> None:
    one, two = mesh.machines
    one.disk.put(IGNORE_FILE, "*.log\n")
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.rename("n.md", "n.log")
    mesh.pass_time(2 * GRACE_S)
    for path, text in saved.items():
        two.disk.put(path, text)
    assert mesh.settle() == {IGNORE_FILE: "*.log\n", **saved}
    two.disk.unlink(IGNORE_FILE)
    assert mesh.settle() == {"n.log": "one\n", **saved}  # each of the two wrote it


def test_a_scroll_without_a_name_gets_one_in_time(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.peer.replica["7.5.5/5.5.5/5.5.5"] = "orphan\n"
    assert mesh.settle() == {}
    assert mesh.settle(35) == {"recovered/7.5.5-5.5.5-5.5.5.md": "orphan\n"}


def test_what_is_no_text_is_left_alone_and_named(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("a.md", "break \x17 here")
    one.disk.create("b.bin")
    one.disk.fill("b.bin", b"caf\xe9")
    one.disk.put("c.md", "nothing\0")
    mesh.pass_time(5)
    assert _problems(one) == {
        "a.md": "expected text without breaks, found a scroll break (U+0017) at offset 6; "
        "leave it out",
        "b.bin": "expected UTF-8, found other bytes at offset 3",
        "c.md": "expected text, found a zero byte (U+0000) at offset 7; leave it out",
    }
    assert one.binding is not None
    assert all(problem.due is None for problem in one.binding.problems)
    assert len(one.binding.problems.take_news()) == 3
    assert len(one.peer.replica) == 0
    one.disk.put("a.md", "no break here")
    one.disk.put("c.md", "nothing")
    mesh.pass_time(2)
    assert two.visible() == {"a.md": "no break here", "c.md": "nothing"}
    one.disk.put("c.md", "something\0")
    mesh.pass_time(5)
    situation = one.binding.situation()
    assert [path for path, *_ in situation.left_alone] == ["b.bin", "c.md"]
    assert (situation.waiting, situation.refused) == (0, ())
    two.disk.put("c.md", "nothing but this")
    mesh.pass_time(5)
    assert one.disk.text("c.md") == "something\0"
    one.disk.put("c.md", "something")
    mesh.pass_time(5)
    assert one.disk.text("c.md") == two.disk.text("c.md") == "something but this"
    assert list(_problems(one)) == ["b.bin"]


def test_a_restart_does_nothing_twice(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.put("n.md", "one\ntwo\n")
    one.work()
    mesh.network.crash(0)
    one.start()
    two.disk.put("m.md", "x\n")
    assert mesh.settle() == {"m.md": "x\n", "n.md": "one\ntwo\n"}


def test_a_directory_that_is_not_there_deletes_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.disk.mount("")
    mesh.pass_time(5)
    assert ".phextsync-bound" in one.problem
    two.disk.put("m.md", "x\n")
    mesh.pass_time(2)
    one.disk.unmount("")
    assert mesh.settle() == {"m.md": "x\n", "n.md": "one\n"}
    assert one.problem == ""


@pytest.mark.parametrize("is_able", [True, False])
def test_a_directory_that_goes_at_any_moment_of_a_round_loses_and_doubles_nothing(
    is_able: bool,
) -> None:
    for number in range(1, 200):
        mesh = Mesh(1)
        machine = Machine(mesh.network, 0, has_exchange=is_able, has_links=is_able)
        mesh.machines = [machine]
        for name in ("changed", "deleted", "edited", "renamed"):
            machine.disk.put(f"{name}.md", f"{name}\n")
        mesh.settle()
        replica, disk = machine.peer.replica, machine.disk
        line = str(_place(machine, "renamed.md"))
        replica.edit(_MAP, replica[_MAP].replace(f"{line} renamed.md", f"{line} new/name.md"))
        replica.append(_place(machine, "changed.md"), "changed again\n")
        replica.edit(_place(machine, "deleted.md"), "")
        machine.disk.put("edited.md", "edited\nedited again\n")
        _AtCall(machine, number, partial(disk.mount, ""))
        machine.work()
        _allow(machine)
        mesh.pass_time(1.5)
        is_over = not disk.is_mounted("")
        disk.unmount("")
        texts = {"changed.md": "changed\nchanged again\n", "new/name.md": "renamed\n"}
        assert mesh.settle() == {**texts, "edited.md": "edited\nedited again\n"}, number
        assert not _problems(machine), number
        if is_over:
            break
    assert number > 40


def test_a_folder_of_another_file_system_that_is_not_there_deletes_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.make_folders("mnt")
    one.disk.mount("mnt")
    one.disk.put("mnt/n.md", "one\n")
    mesh.settle()
    seen = one.disk.unmount("mnt")
    one.look_through()
    mesh.pass_time(5)
    assert two.visible() == {"mnt/n.md": "one\n"}
    assert "not there; mount it" in _problems(one)["mnt/n.md"]
    one.disk.mount("mnt", seen)
    assert mesh.settle() == {"mnt/n.md": "one\n"}


@pytest.mark.parametrize("place", ["", "elsewhere.md", "mnt"])
def test_the_folder_of_a_file_system_that_is_not_there_stays(mesh: Mesh, place: str) -> None:
    one, two = mesh.machines
    one.disk.make_folders("mnt")
    one.disk.mount("mnt")
    one.disk.put("mnt/n.md", "one\n")
    mesh.settle()
    seen = one.disk.unmount("mnt")
    one.look_through()
    two.disk.put("mnt/new.md", "new\n")
    mesh.pass_time(5)
    assert one.disk.text("mnt/new.md") == "new\n"
    if place:
        two.disk.rename("mnt/new.md", "elsewhere.md")
    else:
        two.disk.unlink("mnt/new.md")
    if place == "mnt":
        two.disk.remove_tree("mnt")
        two.disk.rename("elsewhere.md", "mnt")
    mesh.pass_time(8)
    assert one.disk.find("mnt/new.md") is None
    assert one.disk.get("mnt").kind == "folder"
    one.disk.mount("mnt", seen)
    one.look_through()
    mesh.pass_time(RETRY_MAX_S)
    assert "mnt/n.md" not in _problems(one)
    if place != "mnt":  # where the file cannot lie while the file system is there
        assert mesh.settle()["mnt/n.md"] == "one\n"


def test_empty_folders_go_from_a_file_system_that_is_there(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.make_folders("mnt")
    one.disk.mount("mnt")
    for path in ("mnt/deep/n.md", "mnt/deeper/m.md"):
        one.disk.make_folders(path.rpartition("/")[0])
        one.disk.put(path, f"{path}\n")
    mesh.settle()
    two.disk.unlink("mnt/deep/n.md")
    two.disk.rename("mnt/deeper/m.md", "mnt/m.md")
    mesh.settle(8)
    assert one.disk.find("mnt/deep") is one.disk.find("mnt/deeper") is None
    assert one.disk.text("mnt/m.md") == "mnt/deeper/m.md\n"


def test_a_file_system_that_is_mounted_over_files_deletes_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.make_folders("mnt")
    two.disk.put("n.md", "none\n")
    two.disk.make_folders("mnt")
    two.disk.put("mnt/n.md", "one\n")
    two.disk.put("mnt/m.md", "other\n")
    mesh.settle()
    two_has = two.visible()
    seen = one.disk.mount("mnt")
    one.look_through()
    mesh.pass_time(5)
    assert two.visible() == one.visible() == two_has
    assert one.disk.unmount("mnt") is seen
    two.disk.put("mnt/n.md", "one\ntwo\n")
    one.look_through()
    assert mesh.settle()["mnt/n.md"] == "one\ntwo\n"
    one.disk.mount("mnt", seen)
    one.look_through()
    two_has = mesh.settle()
    assert {*two_has["mnt/n.md"].split()} == {"one", "two"}
    assert two_has["mnt/m.md"] == "other\n"


def test_what_lies_below_a_file_system_that_is_gone_meets_the_scroll(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.make_folders("mnt")
    one.disk.put("mnt/n.md", "old\n")
    seen = one.disk.mount("mnt")
    one.disk.put("mnt/n.md", "one\n")
    mesh.settle()
    two.disk.put("mnt/n.md", "one\ntwo\n")
    mesh.settle()
    one.disk.unmount("mnt")
    one.look_through()
    assert sorted(mesh.settle()["mnt/n.md"].split()) == ["old", "one", "two"]
    one.disk.mount("mnt", seen)
    one.look_through()
    assert sorted(mesh.settle()["mnt/n.md"].split()) == ["old", "one", "two"]


def test_a_file_with_a_device_number_of_its_own_is_the_one_that_it_was(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", "one\ntwo\n")
    mesh.settle()
    one.disk.get("n.md").device += 1  # a system that lies over another copied it for a writer
    one.disk.put("n.md", "two\n")
    assert mesh.settle() == {"n.md": "two\n"}


def test_a_deletion_of_most_names_waits_to_be_confirmed(mesh: Mesh) -> None:
    one, two = mesh.machines
    for number in range(GUARD_NAMES):
        one.disk.put(f"{number}.md", f"{number}\n")
    files = mesh.settle()
    for number in range(GUARD_NAMES * 3 // 4):
        one.disk.unlink(f"{number}.md")
    mesh.pass_time(20)
    assert two.visible() == files
    assert one.binding is not None
    assert one.binding.situation().held == GUARD_NAMES * 3 // 4
    two.disk.put("19.md", "goes on\n")
    mesh.pass_time(2)
    assert one.visible()["19.md"] == "goes on\n"
    one.binding.confirm(1)
    assert len(mesh.settle()) == GUARD_NAMES // 4


def test_a_deletion_that_is_held_stays_held_after_a_restart(mesh: Mesh) -> None:
    one, two = mesh.machines
    for number in range(GUARD_NAMES):
        one.disk.put(f"{number}.md", f"{number}\n")
    mesh.settle()
    for number in range(GUARD_NAMES * 3 // 4):
        one.disk.unlink(f"{number}.md")
    mesh.pass_time(20)
    for number in range(GUARD_NAMES, 2 * GUARD_NAMES):  # those that vanished are fewer than half
        two.disk.put(f"{number}.md", f"{number}\n")
    mesh.pass_time(2)
    files = two.visible()
    mesh.network.crash(0)
    one.start()
    mesh.pass_time(20)
    assert two.visible() == files
    assert one.binding is not None
    assert one.binding.situation().held == GUARD_NAMES * 3 // 4
    one.disk.put("0.md", "0\n")
    mesh.pass_time(2)
    one.binding.confirm(1)
    assert set(mesh.settle()) == {"0.md"} | {
        f"{number}.md" for number in range(GUARD_NAMES * 3 // 4, 2 * GUARD_NAMES)
    }


def test_deletions_of_most_names_in_several_rounds_wait_too(mesh: Mesh) -> None:
    one, two = mesh.machines
    names = [f"{number}.md" for number in range(2 * GUARD_NAMES)]
    for name in names:
        one.disk.put(name, f"{name}\n")
    mesh.settle(2 * GUARD_S)
    for some in (names[:12], names[12:24]):  # neither is most, both are
        for name in some:
            one.disk.unlink(name)
        mesh.pass_time(GUARD_S / 2)
    assert {*two.visible()} == {*names[12:]}
    mesh.pass_time(2 * GUARD_S)
    assert one.binding is not None
    assert one.binding.situation().held == 12
    for name in names[12:24]:
        one.disk.put(name, f"{name}\n")
    mesh.pass_time(2 * GUARD_S)
    for name in names[12:24]:  # the first ones are too long ago to count
        one.disk.unlink(name)
    assert {*mesh.settle()} == {*names[24:]}


def test_what_both_wrote_while_nobody_looked_is_there_once(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("n.md", "one\ntwo\n")
    mesh.settle()
    for machine in mesh.machines:
        machine.disk.put("n.md", "one\nmore\ntwo\n")
        machine.start()
    assert mesh.settle() == {"n.md": "one\nmore\ntwo\n"}


def test_what_is_written_into_an_empty_file_as_it_gives_way_is_there(mesh: Mesh) -> None:
    one, aside = mesh.machines[0], aside_of("n.md")
    one.disk.put("n.md", "")

    def write_into(name: str, path: str) -> None:
        if name == "stat" and path == aside and one.disk.find(aside) is not None:
            one.disk.put(aside, "more\n")

    one.files.before = write_into
    Moves(one.files, Reader(one.files, one.disk.now_ns)).clear_way("n.md")
    assert one.visible() == {"n.md": "more\n"}
    assert one.disk.find(aside) is None


def test_what_is_confirmed_while_no_node_runs_is_done_when_one_starts(mesh: Mesh) -> None:
    one, two = mesh.machines
    names = [f"{number}.md" for number in range(2 * GUARD_NAMES)]
    for name in (*names, "stays.md"):
        one.disk.put(name, f"{name}\n")
    one.disk.create("sub", "folder")
    one.disk.put("sub/later.md", "later\n")
    mesh.settle()
    for name in names[:-5]:
        one.disk.unlink(name)
    mesh.pass_time(20)
    assert {*names} < {*two.visible()}
    mesh.network.crash(0)
    for name in names[-5:]:
        one.disk.unlink(name)  # which no node has seen
    one.confirmed_ns = one.disk.now_ns()
    mesh.network.run(1.0)
    one.disk.unlink("sub/later.md")
    one.start()
    mesh.join()
    mesh.pass_time(1.0)
    assert {*two.visible()} == {"sub/later.md", "stays.md"}
    assert {*mesh.settle()} == {"stays.md"}
    for name in names:
        one.disk.put(name, f"{name}\n")
    mesh.settle()
    for name in names:
        one.disk.unlink(name)
    mesh.pass_time(20)
    mesh.network.crash(0)
    one.start()  # what was confirmed is not confirmed again
    mesh.join()
    mesh.pass_time(20)
    assert {*names} < {*two.visible()}


def test_confirming_a_deletion_confirms_no_later_one(mesh: Mesh) -> None:
    one, two = mesh.machines
    names = [f"{number}.md" for number in range(2 * GUARD_NAMES)]
    for name in names:
        one.disk.put(name, f"{name}\n")
    one.disk.put("odd.md", "stays\n")
    mesh.settle()
    one.disk.rename("odd.md", "odd\n.md")  # which is gone, and not deleted
    for name in names:
        one.disk.unlink(name)
    mesh.pass_time(3)
    assert one.binding is not None
    one.binding.confirm(1)
    mesh.pass_time(3)
    assert set(two.visible()) == {"odd.md"}
    for name in names:
        one.disk.put(name, f"{name}\n")
    mesh.pass_time(20)
    for name in names:
        one.disk.unlink(name)
    mesh.pass_time(3)
    assert set(two.visible()) == {"odd.md", *names}
    assert one.binding.situation().held == len(names)


@pytest.mark.parametrize("is_unmounted", [False, True])
def test_a_file_of_which_nothing_can_be_told_costs_no_rounds(
    mesh: Mesh, is_unmounted: bool
) -> None:
    one, two = mesh.machines
    one.disk.make_folders("disk")
    if is_unmounted:
        one.disk.mount("disk")
    one.disk.put("disk/n.md", "one\n")
    mesh.settle()
    if is_unmounted:
        one.disk.unmount("disk")
    else:
        one.disk.unlink("disk/n.md")
        one.work()
        one.disk.create("disk/n.md", "file")
        one.disk.fill("disk/n.md", b"\xff")
    mesh.pass_time(35)
    assert one.binding is not None
    due = one.binding.next_due(one.now)
    assert due is None or due > one.now
    assert one.binding.situation().waiting == 0
    assert two.visible() == {"disk/n.md": "one\n"}


def test_what_changes_while_many_files_are_taken_up_does_not_wait_for_all(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("first.md", "old\n")
    mesh.settle()
    for number in range(800):
        one.disk.put(f"many {number}.md", f"{number}\n")
    place = _place(one, "first.md")
    seen: list[tuple[str | None, int]] = []

    def news() -> tuple[list[str], list[Coordinate]]:
        if not seen:
            one.disk.put("first.md", "old\nnew\n")
        seen.append((one.peer.replica.get(place), len(one.peer.replica)))
        return (["first.md"], []) if len(seen) == 1 else ([], [])

    assert one.binding is not None
    one.binding._news = news
    mesh.pass_time(3)
    text, count = seen[1]
    assert text == "old\nnew\n"
    assert count < 800
    one.binding._news = lambda: ((), ())
    assert len(mesh.settle()) == 801


def test_a_line_of_the_map_that_names_no_file_moves_nothing(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.peer.replica["1.1.1/1.1.1/1.1.1"] = "not in the range\n"
    bad = ["1.1.1/1.1.1/1.1.1 n.md", f"{_MAP} map.md", "7.1.1/1.1.2/9.9.9 ../up.md", "what?"]
    for line in bad:
        one.peer.replica.append(_MAP, f"{line}\n")
    assert mesh.settle() == {"n.md": "one\n"}
    assert one.peer.replica["1.1.1/1.1.1/1.1.1"] == "not in the range\n"
    assert two.binding is not None
    assert [line for line, _ in two.binding.situation().refused_lines] == sorted(bad)


@pytest.mark.parametrize(
    "name",
    ["identity.pem", "data.mdb/n.md", ".git/.phextsync.moving-1", ".phextsync.moving-1/n.md"],
)
def test_a_line_of_the_map_puts_no_file_among_what_is_left_alone(mesh: Mesh, name: str) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    place = Coordinate(7, 2, 1, 1, 1, 1, 1, 1, 1)
    one.peer.replica[place] = "bait\n"
    one.peer.replica.append(_MAP, f"{place} {name}\n")
    mesh.settle()
    assert [machine.disk.find(name) for machine in mesh.machines] == [None, None]
    two.disk.put("n.md", "one\ntwo\n")
    assert mesh.settle() == {"n.md": "one\ntwo\n"}


def test_a_name_that_changes_while_this_machine_writes_the_map_is_heard(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.peer.replica.replace(_MAP, " n.md", " m.md")
    two.disk.put("new.md", "new\n")

    def before(name: str, path: str) -> None:
        if path == "new.md":
            mesh.network.run(0)

    two.files.before = before
    two.work()
    assert mesh.settle() == {"m.md": "one\n", "new.md": "new\n"}


def test_a_line_of_the_map_that_is_changed_moves_the_file(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    one.peer.replica.replace(_MAP, " n.md", " sub/m.md")
    assert mesh.settle() == {"sub/m.md": "one\n"}
    assert two.disk.find("n.md") is None


def test_rules_of_what_is_ignored_hold_for_what_comes_with_them(mesh: Mesh) -> None:
    one, two = mesh.machines
    mesh.settle()
    one.disk.make_folders("build")
    one.disk.put("build/out.md", "made\n")
    one.disk.put("n.md", "one\n")
    one.disk.put(".phextsyncignore", "build/\n")
    assert mesh.settle() == {".phextsyncignore": "build/\n", "n.md": "one\n"}
    assert two.disk.find("build") is None


def test_a_file_that_got_an_ignored_name_makes_room_for_another(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    mesh.part()
    two.disk.put(".phextsyncignore", "x/\n")
    one.disk.create("x", "folder")
    one.disk.rename("n.md", "x/n.md")
    mesh.pass_time(3)
    one.disk.put("n.md", "two\n")
    mesh.pass_time(1)
    assert mesh.settle() == {".phextsyncignore": "x/\n", "n.md": "two\n"}
    assert two.disk.text("x/n.md") == "one\n"
    assert two.binding is not None
    assert two.binding.situation().waiting == 0


def test_an_ignored_file_that_gets_another_name_elsewhere_follows(mesh: Mesh) -> None:
    one, two = mesh.machines
    for name in ("a.md", "b.md"):
        one.disk.make_folders("x")
        one.disk.put(f"x/{name}", f"{name}\n")
    mesh.settle()
    mesh.part()
    two.disk.put(".phextsyncignore", "x/\n")
    mesh.pass_time(1)
    two.disk.unlink("x/b.md")
    for name in ("a.md", "b.md"):
        one.disk.rename(f"x/{name}", name)
    mesh.pass_time(3)
    assert mesh.settle() == {".phextsyncignore": "x/\n", "a.md": "a.md\n", "b.md": "b.md\n"}
    assert two.disk.find("x") is None


def test_a_directory_that_is_marked_again_is_looked_through_at_once(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "one\n")
    mesh.settle()
    two.disk.put(".phextsync-bound", "")
    mesh.pass_time(1)
    one.disk.rename("n.md", "m.md")
    assert mesh.settle() == {"m.md": "one\n"}


def test_rules_that_cannot_be_kept_now_are_tried_again(mesh: Mesh) -> None:
    one, two = mesh.machines
    _refuse(two, errno.ENOSPC)
    one.disk.put(".phextsyncignore", "build/\n")
    mesh.pass_time(5)
    _allow(two)
    assert mesh.settle(20) == {".phextsyncignore": "build/\n"}


@pytest.fixture
def folding() -> Mesh:
    """Two machines; the second takes letters of both cases for the same."""
    made = Mesh(1)
    made.network = Network(2)
    disk = MemoryDisk(abilities=Abilities(folds_case=True))
    made.machines = [Machine(made.network, 0), Machine(made.network, 1, disk)]
    made.join()
    return made


def test_names_that_are_one_here_are_two_files(folding: Mesh) -> None:
    one, two = folding.machines
    one.disk.put("notes.md", "one\n")
    folding.pass_time(3)
    two.disk.unlink("notes.md")
    folding.pass_time(1)
    one.disk.put("Notes.md", "two\n")
    folding.pass_time(5)
    assert (one.visible(), two.visible()) == ({"Notes.md": "two\n"}, {"Notes.md": "two\n"})
    one.disk.put("notes.md", "three\n")
    folding.pass_time(3)
    assert one.visible() == {"Notes.md": "two\n", "notes.md": "three\n"}
    assert two.visible() == {"Notes.md": "two\n", "notes.md~2": "three\n"}


def test_a_name_that_changes_its_letters_alone_does_so_elsewhere(folding: Mesh) -> None:
    one, two = folding.machines
    one.disk.put("readme", "one\n")
    folding.pass_time(3)
    one.disk.rename("readme", "README")
    folding.pass_time(5)
    assert (one.visible(), two.visible()) == ({"README": "one\n"}, {"README": "one\n"})
    two.disk.rename("README", "Readme")
    two.look_through()
    folding.pass_time(5)
    assert [*one.visible().values()] == [*two.visible().values()] == ["one\n"]


def test_marks_of_files_travel(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.create("run.sh", "file", 0o755)
    one.disk.put("run.sh", "echo\n")
    one.disk.create("key", "file", 0o600)
    one.disk.put("key", "secret\n")
    mesh.settle()
    assert two.disk.get("run.sh").mode & 0o111 == 0o111
    assert two.disk.get("key").mode == 0o600
    two.disk.set_mode("run.sh", 0o644)
    mesh.settle()
    assert one.disk.get("run.sh").mode & 0o111 == 0


def test_marks_that_changed_while_a_node_was_down_are_done(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("run.sh", "echo\n")
    mesh.settle()
    mesh.part()
    one.disk.set_mode("run.sh", 0o755)
    mesh.pass_time(1)
    mesh.join()
    two.start()
    mesh.settle()
    assert two.disk.get("run.sh").mode & 0o111


def test_who_goes_on_writing_into_a_replaced_file_is_heard(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("log.md", "one\n")
    mesh.settle()
    inode = one.disk.get("log.md")
    inode.opened += 1
    two.disk.put("log.md", "zero\none\n")
    mesh.pass_time(1)
    assert one.disk.get("log.md") is not inode
    one.disk.fill_open(inode, b"one\ntwo\n")
    assert mesh.settle() == {"log.md": "zero\none\ntwo\n"}
    mesh.pass_time(30)
    one.disk.fill_open(inode, b"one\ntwo\nthree\n")
    one.disk.release(inode)
    assert mesh.settle() == {"log.md": "zero\none\ntwo\nthree\n"}


def test_of_many_replaced_files_the_one_that_somebody_writes_into_is_heard(mesh: Mesh) -> None:
    one, two = mesh.machines
    names = ["log.md", *(f"{number}.md" for number in range(70))]
    for name in names:
        one.disk.put(name, "one\n")
    mesh.settle()
    inode = one.disk.get("log.md")
    inode.opened += 1
    for name in names:
        two.disk.put(name, "zero\none\n")
        mesh.pass_time(0.2 if name == "log.md" else 0)
    mesh.pass_time(1)
    one.disk.fill_open(inode, b"one\ntwo\n")
    assert mesh.settle()["log.md"] == "zero\none\ntwo\n"


# -- any history ---------------------------------------------------------------------------

_names = st.sampled_from(["MEMORY.md", "2026-11-25.md", "sub/notes.md"])
_steps = st.one_of(
    st.tuples(
        st.sampled_from(["append", "prepend", "insert", "replace", "drop", "delete", "restart"]),
        st.integers(0, 2),
        _names,
    ),
    st.tuples(st.just("rename"), st.integers(0, 2), _names),
    st.tuples(st.sampled_from(["work", "write"]), st.integers(0, 2), _names),
    st.tuples(st.sampled_from(["join", "part", "time"]), st.just(0), st.just("")),
)


def _token(number: int) -> str:
    return f"t{number:03}"  # none is another with a letter put in


def _tokens(text: str) -> list[str]:
    return re.findall(r"t\d{3}", text)


@dataclass
class _History:
    """What users did to the files of a mesh, each line with a token and words that all have."""

    mesh: Mesh
    random: Random
    tokens: int = 0
    deleted: set[str] = field(default_factory=set)

    def pass_time(self, name: str, path: str) -> None:
        """Let what was sent arrive, at half of all occasions."""
        if self.random.random() < 0.2:
            self.mesh.network.step()

    def act(self, step: str, number: int, name: str) -> None:
        machine = self.mesh.machines[number]
        match step:
            case "join":
                self.mesh.join()
            case "part":
                self.mesh.part()
            case "time":
                self.mesh.pass_time(1)
            case "work":
                machine.work()
            case "restart":
                machine.start()
            case _:
                self._change(step, machine, name)

    def _change(self, step: str, machine: Machine, name: str) -> None:
        text = machine.disk.text(name)
        lines = [] if text is None else text.splitlines(keepends=True)
        at = self.random.randint(0, len(lines))
        if step == "rename":
            if lines and machine.disk.find(f"{name}.prev") is None:
                machine.disk.rename(name, f"{name}.prev")
            return
        if step == "delete":
            self.deleted.update(_tokens("".join(lines)))
            if text is not None:
                machine.disk.unlink(name)
            return
        if step == "drop" and at < len(lines):
            self.deleted.update(_tokens(lines.pop(at)))
        else:
            place = {"append": len(lines), "prepend": 0}.get(step, at)
            lines.insert(place, f"{_token(self.tokens)} was noted here\n")
            self.tokens += 1
        if "/" in name:
            machine.disk.make_folders(name.rpartition("/")[0])
        if step == "replace":
            _replace(machine, name, "".join(lines))
        else:
            machine.disk.put(name, "".join(lines))
        if step != "write":
            machine.work()


@settings(deadline=None, max_examples=60)
@given(st.lists(_steps, max_size=25), st.integers(0, 9))
def test_any_history_ends_with_equal_directories_and_every_line_once(
    steps: list[tuple[str, int, str]], seed: int
) -> None:
    history = _History(Mesh(3), Random(seed))
    history.mesh.join()
    for machine in history.mesh.machines:
        machine.files.before = history.pass_time
    for step in steps:
        history.act(*step)
    found = Counter(_tokens("\n".join(history.mesh.settle(6).values())))
    assert not {token: count for token, count in found.items() if count > 1}
    lost = {_token(i) for i in range(history.tokens)} - {*found} - history.deleted
    assert not lost


def test_what_a_machine_did_to_files_is_taken_back_in_the_files_of_all(mesh: Mesh) -> None:
    a, b = mesh.machines
    _replace(a, "notes.md", "milk and bread\neggs\nbutter\n")
    mesh.settle()
    _replace(b, "notes.md", "milk and evil\nmore evil\nbutter\n")
    mesh.settle()
    a.peer.replica.append(_place(a, "notes.md"), "honey\n")
    mesh.settle()
    by = Writer(b.peer.node_id)
    for machine in mesh.machines:  # at once
        place = _place(machine, "notes.md")
        found = machine.peer.replica.past(place).taking_back(by)
        assert found is not None
        machine.peer.replica.take_back(place, found.update)
    assert mesh.settle()["notes.md"] == "milk and bread\neggs\nbutter\nhoney\n"
