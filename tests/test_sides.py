"""A conflict shows what people really wrote: every line of a side is one that the side had."""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest

from phextsync.conflicts import settled
from phextsync.crdt import Applied, Scroll
from phextsync.files.binding import Binding
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.conflict_log import LoggedConflict
from phextsync.files.desk import FileDesk, NotServing
from phextsync.files.records import Shared
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.extents import beyond, deleting, extent_of, has, joined
from phextsync.replica.past import FOREVER
from phextsync.replica.peer_versions import PeerVersions
from phextsync.replica.sides import Apart, sides
from phextsync.store.contract import LogEntry
from sims.machines import RANGE, Machine
from sims.network import PHEXT
from tests.test_files import Mesh

_WORDS = ("buy", "milk", "oat", "soy", "tea", "rice", "bread", "for", "two", "days", "at", "noon")
_NAME = "plan.md"
_PLACE = Coordinate(*[7] * 9)


def _at(scroll: int) -> Coordinate:
    return Coordinate.parse(f"7.7.7/7.7.7/7.7.{scroll}")


def _changed(random: Random, lines: Iterable[str]) -> str:
    """Change lines and words at random."""
    found: list[str] = []
    for line in lines:
        words = line.split()
        at = random.randrange(len(words)) if words else 0
        match random.randrange(12):
            case 0:
                continue
            case 1:
                found.append(" ".join(random.choices(_WORDS, k=3)))
            case 2:
                words[at:] = [random.choice(_WORDS), *words[at + 1 :]]
            case 3:
                words.insert(at, random.choice(_WORDS))
            case 4:
                del words[at : at + 1]
            case 5 | 6:
                words[at:] = ["".join([*words[at : at + 1], "xyz"[at % 3]]), *words[at + 1 :]]
            case 7:
                words = random.choices(_WORDS, k=random.randint(1, 5))
        found.append(" ".join(words))
    return "".join(f"{line}\n" for line in found) or "gone\n"


class _Notes:
    """Machines with one file, and all lines that the file or the scroll of each ever had."""

    def __init__(self, random: Random, count: int) -> None:
        self.mesh = Mesh(count)
        self.had: list[set[str]] = [set() for _ in range(count)]
        for machine in self.mesh.machines:
            machine.peer.replicas.keep_history(FOREVER)
        lines = [
            random.choices(_WORDS, k=random.randint(2, 4)) for _ in range(random.randint(1, 4))
        ]
        text = "".join(f"{' '.join(line)}\n" for line in lines)
        self.mesh.machines[0].disk.put(_NAME, text)
        self.mesh.settle()
        self.mesh.part()

    def text(self, number: int) -> str:
        return self.mesh.machines[number].visible().get(_NAME, "")

    def put(self, number: int, text: str) -> None:
        self.mesh.machines[number].disk.put(_NAME, text)
        self.had[number] |= set(text.splitlines())

    def pass_time(self, seconds: float) -> None:
        end = self.mesh.network.now + seconds
        while self.mesh.network.now < end:
            self.mesh.pass_time(0.1)
            for number, machine in enumerate(self.mesh.machines):
                texts = [text for _, text in machine.peer.replica.scrolls()]
                for text in (self.text(number), *texts):
                    self.had[number] |= set(text.splitlines())

    def told(self, number: int) -> list[LoggedConflict]:
        binding = self.mesh.machines[number].binding
        assert binding is not None
        return list(binding.conflicts)

    def check(self) -> int:
        """Check that all lines that are told are lines that somebody had; return how many conflicts
        show the other side."""
        shown = 0
        for number in range(len(self.had)):
            others = set[str]().union(*(had for i, had in enumerate(self.had) if i != number))
            for each in self.told(number):
                assert set(each.conflict.mine.splitlines()) <= self.had[number], each
                shown += each.is_known
                if each.is_known:
                    assert set(each.conflict.theirs.splitlines()) <= others, each
        return shown


@pytest.mark.parametrize("seed", range(40))
def test_lines_of_two_that_were_apart_are_told_as_they_wrote_them(seed: int) -> None:
    random = Random(seed)
    notes = _Notes(random, 2)
    base = notes.text(0)
    texts = [_changed(random, base.splitlines()) for _ in range(2)]
    for number, text in enumerate(texts):
        notes.put(number, text)
    notes.pass_time(3)
    merged = notes.mesh.settle().get(_NAME, "")
    lines = {line for text in texts for line in text.splitlines()}
    for number in range(2):
        told = notes.told(number)
        assert all(each.is_known for each in told)
        for each in told:
            assert set(each.conflict.mine.splitlines()) <= set(texts[number].splitlines())
            assert set(each.conflict.theirs.splitlines()) <= set(texts[1 - number].splitlines())
        for side in ("mine", "theirs"):
            text = merged
            for each in told:
                taken = settled(text, each.conflict, getattr(each.conflict, side))
                assert taken is not None
                text = taken
            # Where no line was changed by both, words of two lines may stand together.
            left = [each.conflict.left.lines for each in told if each.conflict.left is not None]
            beside = set(merged.splitlines()) - set("".join(left).splitlines())
            assert set(text.splitlines()) <= lines | beside


@pytest.mark.parametrize("seed", range(12))
def test_lines_of_three_that_were_apart_are_lines_that_one_had(seed: int) -> None:
    random = Random(seed)
    notes = _Notes(random, 3)
    for number in range(3):
        notes.put(number, _changed(random, notes.text(number).splitlines()))
    notes.pass_time(2)
    notes.mesh.network.link_all()
    notes.pass_time(4)
    notes.mesh.settle()
    notes.check()


@pytest.mark.parametrize("seed", range(12))
def test_who_answers_while_a_third_is_away_is_told_as_it_wrote(seed: int) -> None:
    random = Random(seed)
    notes = _Notes(random, 3)
    notes.mesh.network.link(0, 1)
    for number in (0, 1, 2, 0, 1):
        notes.put(number, _changed(random, notes.text(number).splitlines()))
        notes.pass_time(random.choice([0.1, 0.3, 2.0]))
    notes.mesh.network.link_all()
    notes.pass_time(4)
    notes.mesh.settle()
    notes.check()


def _met_one_after_the_other(seed: int) -> _Notes:
    """Return three machines that changed a file apart and met so, and edited meanwhile."""
    random = Random(seed)
    notes = _Notes(random, 3)
    for number in range(3):
        notes.put(number, _changed(random, notes.text(number).splitlines()))
    notes.pass_time(2)
    pairs = [(0, 1), (1, 2), (0, 2)]
    random.shuffle(pairs)
    for pair in pairs:
        notes.mesh.network.link(*pair)
        notes.pass_time(random.choice([0.0, 0.2, 2.0]))
        if random.random() < 0.5:
            number = random.randrange(3)
            notes.put(number, _changed(random, notes.text(number).splitlines()))
            notes.pass_time(random.choice([0.0, 0.2, 1.0]))
    notes.pass_time(4)
    notes.mesh.settle()
    return notes


@pytest.mark.parametrize(("seed", "least"), [(38, 12), (83, 2), (149, 2), (185, 2)])
def test_three_that_meet_one_after_the_other_are_told_lines_that_one_had(
    seed: int, least: int
) -> None:
    notes = _met_one_after_the_other(seed)
    assert notes.check() > 0
    assert sum(len(notes.told(number)) for number in range(3)) >= least


@pytest.mark.parametrize("seed", [14, 38, 74, 161, 170, 179, 182, 206, 218, 230])
def test_what_a_third_machine_brings_is_told_as_its_writer_had_it(seed: int) -> None:
    notes = _met_one_after_the_other(seed)
    notes.check()
    assert all(each.is_known for number in range(3) for each in notes.told(number))


def test_who_had_made_a_part_of_a_change_itself_is_told_what_the_others_had() -> None:
    """They lack nothing, so they ask for nothing; what they send does not say what they had."""
    notes = _Notes(Random(1), 3)
    notes.put(0, "buy oat milk for two\n")
    notes.mesh.network.link_all()
    notes.mesh.settle()
    notes.mesh.part()
    notes.mesh.network.link(0, 1)
    notes.put(1, "buy milk two\n")
    notes.put(2, "buy oat milk two\n")
    notes.pass_time(2)
    notes.mesh.settle()
    (told,) = notes.told(2)
    assert (told.conflict.theirs, told.is_known) == ("buy milk two\n", True)


@pytest.mark.parametrize("seed", range(16))
def test_of_first_versions_that_were_edited_apart_is_told_what_their_users_wrote(
    seed: int,
) -> None:
    random, mesh = Random(seed), Mesh(2)
    for machine in mesh.machines:
        machine.peer.replicas.keep_history(FOREVER)
    lines = [" ".join(random.choices(_WORDS, k=3)) for _ in range(random.randint(1, 5))]
    texts = ["".join(f"{line}\n" for line in lines)] * 2
    for _ in range(random.randint(2, 3)):
        texts = [_changed(random, text.splitlines()) for text in texts]
        for machine, text in zip(mesh.machines, texts, strict=True):
            machine.disk.put(_NAME, text)
        mesh.pass_time(random.choice([0.3, 2.0]))
    mesh.settle()
    wrote = [set(text.splitlines()) for text in texts]
    for number, machine in enumerate(mesh.machines):
        assert machine.binding is not None
        for each in machine.binding.conflicts:
            assert each.is_known
            assert set(each.conflict.mine.splitlines()) <= wrote[number]
            assert set(each.conflict.theirs.splitlines()) <= wrote[1 - number]


def _apart(*texts: str, base: str) -> _Notes:
    """Return machines that changed a file apart, and met."""
    notes = _Notes(Random(1), len(texts))
    notes.put(0, base)
    notes.mesh.settle()
    notes.mesh.part()
    for number, text in enumerate(texts):
        if text:
            notes.put(number, text)
        else:
            notes.mesh.machines[number].disk.unlink(_NAME)
    notes.pass_time(4)
    notes.mesh.settle()
    return notes


def _sides(notes: _Notes) -> list[list[tuple[str, str]]]:
    return [
        [(each.conflict.mine, each.conflict.theirs) for each in notes.told(number)]
        for number in range(len(notes.had))
    ]


def test_of_a_word_that_both_replaced_each_side_has_its_own() -> None:
    notes = _apart("buy rice\n", "buy bread\n", base="buy milk\n")
    assert _sides(notes) == [[("buy rice\n", "buy bread\n")], [("buy bread\n", "buy rice\n")]]


def test_a_file_that_one_deleted_and_another_changed_is_a_conflict_on_both() -> None:
    notes = _apart("", "buy oat milk\n", base="buy milk\n")
    assert _sides(notes) == [[("", "buy oat milk\n")], [("buy oat milk\n", "")]]


@pytest.mark.parametrize(
    ("mine", "theirs"), [("a\nxyz\nc\n", "a\nc\n"), ("a\nc\n", "a\nmilk\nc\n")]
)
def test_what_one_deleted_of_what_another_deleted_whole_is_a_conflict_on_both(
    mine: str, theirs: str
) -> None:
    """Nothing comes to that one, which has all that the other did."""
    notes = _apart(mine, theirs, base="a\nbuy milk\nc\n")
    told = _sides(notes)
    assert told == [[(mine[2:-2], theirs[2:-2])], [(theirs[2:-2], mine[2:-2])]]


def _named(notes: _Notes) -> None:
    """Let each machine know the others by the names a, b, c."""
    names = {m.peer.node_id: name for m, name in zip(notes.mesh.machines, "abc", strict=True)}
    for machine in notes.mesh.machines:
        assert machine.binding is not None
        machine.binding.conflicts._name_of = names.__getitem__


def _three_apart(*texts: str, base: str) -> _Notes:
    """Return three machines that have changed a file and not met yet."""
    notes = _Notes(Random(1), 3)
    _named(notes)
    notes.mesh.network.link_all()
    notes.put(0, base)
    notes.mesh.settle()
    notes.mesh.part()
    for number, text in enumerate(texts):
        notes.put(number, text)
    notes.pass_time(2)
    return notes


def test_the_lines_of_three_are_three_conflicts_with_their_writers() -> None:
    notes = _three_apart("buy rice\n", "buy bread\n", "buy tea\n", base="buy milk\n")
    for pair in ((0, 1), (1, 2), (0, 2)):
        notes.mesh.network.link(*pair)
        notes.pass_time(3)
    notes.mesh.settle()
    first = [(e.conflict.mine, e.conflict.theirs, e.theirs_by) for e in notes.told(0)]
    assert first[0] == ("buy rice\n", "buy bread\n", "b")
    assert notes.check() >= 3


@pytest.mark.parametrize("hub", [0, 1, 2])
def test_who_meets_two_at_once_is_told_what_each_of_them_had(hub: int) -> None:
    """What the second sends holds what it was sent itself meanwhile."""
    lines = "buy rice\n", "buy bread\n", "buy tea\n"
    notes = _three_apart(*lines, base="buy milk\n")
    others = [number for number in range(3) if number != hub]
    for number in others:
        notes.mesh.network.link(hub, number)
    notes.pass_time(3)
    told = {(e.conflict.theirs, e.theirs_by) for e in notes.told(hub) if e.is_known}
    assert told >= {(lines[number], "abc"[number]) for number in others}
    assert all(each.is_known for each in notes.told(hub))
    assert {e.conflict.mine for e in notes.told(hub)} == {lines[hub]}


def test_who_changes_what_is_left_of_a_line_of_which_it_knows_makes_no_conflict() -> None:
    """A third is away, so that what each changed may be unknown to somebody."""
    notes = _Notes(Random(1), 3)
    notes.mesh.network.link_all()
    notes.put(0, "rice buy rice\n")
    notes.mesh.settle()
    notes.mesh.part()
    notes.mesh.network.link(0, 1)
    for number, text in ((0, "rice rice\n"), (1, "gone\n")):
        notes.put(number, text)
        notes.pass_time(2)
    assert [notes.told(number) for number in (0, 1)] == [[], []]


def test_what_others_had_is_not_told_where_no_history_says() -> None:
    notes = _Notes(Random(1), 2)
    base = notes.text(0)
    notes.mesh.part()
    for number, text in enumerate(("buy rice\n", "buy bread\n")):
        notes.put(number, text)
    notes.pass_time(2)
    binding = notes.mesh.machines[0].binding
    assert binding is not None
    (place,) = binding.records.all_shared
    binding.records.replace_shared(place, Shared(base, base, b"", b""))
    notes.mesh.settle()
    assert [[each.is_known for each in notes.told(number)] for number in (0, 1)] == [
        [False],
        [True],
    ]


def test_a_conflict_that_is_settled_elsewhere_is_one_no_longer() -> None:
    notes = _apart("buy rice\n", "buy bread\n", base="buy milk\n")
    one, other = (notes.told(number)[0] for number in (0, 1))
    replica = notes.mesh.machines[0].peer.replica
    text = settled(replica[one.coordinate], one.conflict, one.conflict.theirs)
    assert text == "buy bread\n"
    replica.edit(one.coordinate, text)
    assert notes.mesh.settle() == {_NAME: "buy bread\n"}
    assert other.conflict.mine == "buy bread\n"
    assert _sides(notes) == [[], []]


class _Serving(NotServing):
    """What keeps the directory of a machine in step."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def binding(self, directory: Path) -> Binding | None:
        return self._machine.binding


@pytest.fixture
def settle(tmp_path: Path) -> Callable[[_Notes, int, str, str], None]:
    """Settle the first conflict that a machine tells."""
    folder = tmp_path / "data"
    folder.mkdir()
    BindingStore(folder).bind(Bound(tmp_path / "notes", PHEXT, RANGE))

    def settle(notes: _Notes, number: int, side: str, text: str = "") -> None:
        machine = notes.mesh.machines[number]
        desk = FileDesk(machine.peer.replicas, folder, _Serving(machine))
        desk.settle(notes.told(number)[0].number, side, text)

    return settle


def test_a_conflict_that_is_settled_by_other_lines_is_one_no_longer_on_any_machine(
    settle: Callable[..., None],
) -> None:
    notes = _apart("a\nbuy rice\nb\n", "a\nbuy bread\nb\n", "", base="a\nbuy milk\nb\n")
    assert [len(told) for told in _sides(notes)] == [2, 2, 2]
    settle(notes, 0, "text", "buy tea\nand sugar\n")
    assert notes.mesh.settle() == {_NAME: "a\nbuy tea\nand sugar\nb\n"}
    assert _sides(notes) == [[], [], []]


def test_who_changes_what_a_merge_left_by_hand_settles_nothing_for_others() -> None:
    notes = _apart("a\nbuy rice\nb\n", "a\nbuy bread\nb\n", base="a\nbuy milk\nb\n")
    before = _sides(notes)
    notes.put(0, notes.text(0).replace("buy", "Buy"))
    notes.pass_time(2)
    assert notes.mesh.settle()[_NAME].startswith("a\nBuy ")
    assert _sides(notes) == before


def test_what_a_side_had_is_no_conflict_again_when_it_is_told_again(
    settle: Callable[..., None],
) -> None:
    notes = _apart("a\nxyz\nc\n", "a\nc\n", base="a\nbuy milk\nc\n")
    replicas = notes.mesh.machines[0].peer.replicas
    (place,) = {each.coordinate for each in notes.told(0)}
    had, _ = replicas.peer_versions.heard(PHEXT, place, 0)
    notes.mesh.part()
    settle(notes, 0, "text", "buy tea\n")
    for node_id, version in had:
        if node_id != replicas.node_id:
            replicas.peer_versions.tell(PHEXT, place, node_id, version, version)
    notes.pass_time(2)
    assert notes.told(0) == []


def test_a_conflict_that_two_settle_otherwise_unseen_is_one_again(
    settle: Callable[..., None],
) -> None:
    notes = _apart("buy rice\n", "buy bread\n", base="buy milk\n")
    notes.mesh.part()
    for number in range(2):
        settle(notes, number, "mine")
        assert notes.told(number) == []
    notes.pass_time(3)
    notes.mesh.settle()
    assert _sides(notes) == [[("buy rice\n", "buy bread\n")], [("buy bread\n", "buy rice\n")]]


def test_a_machine_that_was_started_again_tells_what_both_wrote() -> None:
    notes = _Notes(Random(1), 2)
    notes.put(0, "buy milk\n")
    notes.mesh.settle()
    notes.mesh.part()
    for number, text in enumerate(("buy rice\n", "buy bread\n")):
        notes.put(number, text)
    notes.pass_time(3)
    for machine in notes.mesh.machines:
        notes.mesh.network.crash(machine.number)
        machine.start()
    notes.mesh.settle()
    assert _sides(notes) == [[("buy rice\n", "buy bread\n")], [("buy bread\n", "buy rice\n")]]


def test_of_what_peers_tell_what_is_watched_or_differs_is_kept_until_it_is_here() -> None:
    scroll = Scroll(_PLACE, 1)
    versions = []
    for text in ("a", "ab", "abc"):
        scroll.edit(text)
        versions.append(scroll.version())
    other = Scroll(_PLACE, 2)
    other.edit("other")
    told = PeerVersions()
    told.tell("notes", _PLACE, b"x", versions[0], versions[2])
    assert told.take("notes", _PLACE, versions[2]) == []
    told.tell("notes", _PLACE, b"x", versions[0], other.version())
    assert told.take("notes", _PLACE, versions[2]) == [(b"x", versions[0])]
    told.watch("notes", _PLACE)
    told.tell("notes", _PLACE, b"y", versions[1], versions[2])
    told.tell("notes", _PLACE, b"z", versions[2], versions[2])
    assert told.take("notes", _PLACE, versions[1]) == [(b"y", versions[1])]
    assert told.known("notes", _PLACE) == {b"x": versions[0], b"y": versions[1]}
    told.keep_watching("notes", EVERYTHING, [])
    assert not told.is_watched("notes", _PLACE)
    assert told.take("notes", _PLACE, versions[2]) == []


def test_a_long_past_is_replayed_once_whatever_came_then(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[bytes] = []
    apply = Scroll.apply

    def counted(scroll: Scroll, update: bytes, *, is_ours: bool = False) -> Applied:
        applied.append(update)
        return apply(scroll, update, is_ours=is_ours)

    mine, own, other = Scroll(_PLACE, 1), b"o" * 16, b"x" * 16
    entries: list[LogEntry] = []

    def write(scroll: Scroll, text: str, node: bytes) -> None:
        update = scroll.insert(0, text)
        assert update is not None
        entries.append(LogEntry(update, node, len(entries)))

    for _ in range(300):
        write(mine, "long ago\n", own)
    before = mine.version()
    for _ in range(20):
        write(mine, "mine\n", own)
    theirs = Scroll(_PLACE, 2, [mine.state()])
    write(theirs, "of ", other)
    had = Scroll(_PLACE, 3, [e.update for e in entries[:300]])
    had.insert(0, "theirs\n")
    entries.append(LogEntry(had.state(), b"", 0))
    apart = Apart(own, before, before, [(b"y" * 16, had.version())])
    monkeypatch.setattr(Scroll, "apply", counted)
    found = sides(_PLACE, None, entries, apart, {1: own, 2: other}.get)
    assert found.are_all
    assert [side.text[:9] for side in found.others] == ["theirs\nlo", "of mine\nm"]
    assert len(applied) < 500


def test_of_versions_that_follow_each_other_the_last_is_a_side_and_a_merge_is_none() -> None:
    own, x, y = b"o" * 16, b"x" * 16, b"y" * 16
    mine = Scroll(_PLACE, 1)
    mine.edit("buy milk\n")
    before = mine.version()
    entries = [LogEntry(mine.state(), own, 0)]
    xs, ys = (Scroll(_PLACE, client, [mine.state()]) for client in (2, 3))
    had: list[tuple[bytes, bytes]] = []
    for node, scroll, text in (
        (x, xs, "buy rice\n"),
        (x, xs, "buy brown rice\n"),
        (y, ys, "buy bread\n"),
    ):
        scroll.edit(text)
        had.append((node, scroll.version()))
    ys.apply(xs.state())
    had.append((y, ys.version()))
    change = mine.edit("buy tea\n")
    assert change is not None
    entries += [LogEntry(change, own, 1), LogEntry(ys.state(), b"", 2)]
    apart = Apart(own, before, mine.version(), had)
    found = sides(_PLACE, None, entries, apart, {1: own, 2: x, 3: y}.get)
    assert [(s.base, s.text, s.writers) for s in found.others] == [
        ("buy milk\n", "buy brown rice\n", (x,)),
        ("buy milk\n", "buy bread\n", (y,)),
    ]


@pytest.mark.parametrize("is_told", [True, False])
def test_who_has_met_a_third_is_known_to_know_what_its_version_says(is_told: bool) -> None:
    own, x = b"o" * 16, b"x" * 16
    mine, theirs = Scroll(_PLACE, 1), Scroll(_PLACE, 2)
    entries: list[LogEntry] = []

    def write(scroll: Scroll, other: Scroll, text: str, node: bytes) -> None:
        update = scroll.append(text)
        assert update is not None
        other.apply(update)
        entries.append(LogEntry(update, node, len(entries)))

    write(mine, theirs, "plan\n", own)
    before = mine.version()
    write(theirs, mine, "buy milk\n", x)
    seen = mine.version()
    write(theirs, mine, "buy tea\n", x)
    known = {x: seen} if is_told else {}
    found = sides(_PLACE, None, entries, Apart(own, before, seen, (), known), {1: own, 2: x}.get)
    assert [(s.base, s.text, s.is_known) for s in found.others] == [
        ("plan\nbuy milk\n", "plan\nbuy milk\nbuy tea\n", is_told)
    ]


def test_of_the_versions_that_were_told_of_a_scroll_the_last_are_kept() -> None:
    scroll, told = Scroll(_PLACE, 1), PeerVersions()
    told.watch("notes", _PLACE)
    versions = []
    for _ in range(99):
        scroll.edit(scroll.text + "a")
        versions.append(scroll.version())
        told.tell("notes", _PLACE, b"x", versions[-1], versions[-1])
    taken = told.take("notes", _PLACE, versions[-1])
    assert [version for _, version in taken] == versions[-16:]
    assert told.known("notes", _PLACE) == {b"x": versions[-1]}
    for node in (b"y", b"x"):
        told.hear("notes", _PLACE, node, versions[0])
    heard, last = told.heard("notes", _PLACE, 0)
    assert heard == [(b"y", versions[0]), (b"x", versions[0])], "of each the last that was new"
    assert told.heard("notes", _PLACE, last) == ([], last)
    told.keep_watching("notes", EVERYTHING, [])
    assert told._size == 0
    assert told.heard("notes", _PLACE, 0) == ([], 0)


def test_who_watches_no_more_in_one_range_forgets_nothing_of_another() -> None:
    told = PeerVersions()
    for place in (_PLACE, _at(1)):
        told.watch("notes", place)
        told.tell("notes", place, b"x", bytes([1, 2, 1, 0]), bytes([1, 1, 1, 0]))
    told.keep_watching("notes", CoordinateRange.parse("7.7.7/7.7.7/7.7.1"), [])
    assert not told.is_watched("notes", _at(1))
    assert told.is_watched("notes", _PLACE)
    assert told.heard("notes", _PLACE, 0)[0] == [(b"x", bytes([1, 2, 1, 0]))]


def test_what_is_kept_of_the_versions_of_peers_is_bounded() -> None:
    told = PeerVersions()
    for i in range(1, 100):
        place = _at(i)
        told.watch("notes", place)
        told.note("notes", place, b"x", bytes(1 << 18))
    assert told.known("notes", _at(1)) == {}
    assert told.known("notes", _at(99))
    for i in range(40_000):
        place = Coordinate(1, 1, 1, 1, 1, 1, i // 900 + 1, i % 900 + 1, 1)
        told.tell("notes", place, b"x", bytes([1, 2, 1, 0]), bytes([1, 1, 1, 0]))
    assert len(told.scrolls) < 40_000, "that they are short does not make them countless"


def test_what_several_versions_have_is_what_one_of_them_has() -> None:
    one, other = Scroll(_PLACE, 1), Scroll(_PLACE, 2)
    one.edit("abcdef")
    other.apply(one.state())
    before = one.version()
    one.delete(1, 3)
    other.delete(2, 5)
    other.append("g")
    both = Scroll(_PLACE, 3, [one.state(), other.state()])
    extents = [extent_of(scroll.version()) for scroll in (one, other)]
    assert joined(extents) == extent_of(both.version())
    assert joined([*extents, extent_of(before)]) == joined(extents)
    assert has(joined(extents), extents[0])
    assert not any(has(each, joined(extents)) for each in extents)
    assert not has(extent_of(before), extents[0])
    cut = beyond(extents[0], extent_of(both.version()).clocks)
    assert cut == {1: [(1, 3)], 2: [(0, 1)]}
    whole = Scroll(_PLACE, 4, [other.state(), deleting(cut)])
    assert whole.text == "af"
