"""Which scroll is which file, and at which path it lies: every machine finds the same."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from phextsync.edits import apply_edits
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.files.ignoring import IGNORE_FILE, Ignoring
from phextsync.files.names import Line, NameMap, check_name, marks_of, prefix_of
from phextsync.files.paths import Abilities, Layout, paths_of
from phextsync.index import Coordinate, CoordinateRange

_RANGE = CoordinateRange.parse("7.*")
_PLACES = [Coordinate(7, 1, 1, 1, 1, 1, 1, 2, i) for i in range(1, 9)]
_WELL_KNOWN = [
    "MEMORY.md",
    "2026-11-25.md",
    "sub/notes.md",
    "x" * 255,
    "\U0001f469\u200d\U0001f52c.md",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "no\u00a0break",
    "\u3000wide",
    "soft\u00adhyphen",
    "\u202eright to left",
    "\ue000 private",
    " blank first",
    "blank last ",
    "blanks last   ",
    "back\\slash",
    "back\\s",
    "ends with \\",
    "s\\ \\s \\\\ ",
]


# -- the map -------------------------------------------------------------------------------

_characters = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/")
_parts = st.text(_characters, min_size=1, max_size=20).filter(lambda part: part not in (".", ".."))
_names = st.lists(_parts, min_size=1, max_size=3).map("/".join) | st.sampled_from(_WELL_KNOWN)
_lines = st.builds(Line, st.sampled_from(_PLACES), _names, st.sampled_from(["", "x", "p", "px"]))


@pytest.mark.parametrize("name", _WELL_KNOWN)
def test_every_name_that_a_file_may_have_stands_in_the_map(name: str) -> None:
    check_name(name)
    for marks in ("", "px"):
        line = Line(_PLACES[0], name, marks)
        assert NameMap(_RANGE, str(line)).line_at(_PLACES[0]) == line


@given(st.lists(_lines, max_size=8), st.lists(_lines, max_size=8))
def test_a_map_that_changes_is_the_one_that_is_read_at_once(
    before: list[Line], after: list[Line]
) -> None:
    _check_read(before, after)


@given(st.lists(_lines, max_size=8), st.lists(_lines, max_size=2), st.data())
def test_a_map_of_which_a_part_changes_is_the_one_that_is_read_at_once(
    before: list[Line], put_in: list[Line], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(before)))
    stop = data.draw(st.integers(start, len(before)))
    _check_read(before, [*before[:start], *put_in, *before[stop:]])


def _check_read(before: list[Line], after: list[Line]) -> None:
    texts = ["".join(map(str, lines)) for lines in (before, after)]
    changing, fresh = NameMap(_RANGE, texts[0]), NameMap(_RANGE, texts[1])
    old = {line.coordinate: line for line in changing.lines()}
    changed = changing.read(texts[1])
    new = {line.coordinate: line for line in changing.lines()}
    assert new == {line.coordinate: line for line in fresh.lines()}
    assert changed >= {c for c in {*old, *new} if old.get(c) != new.get(c)}
    assert (changing.rejected, changing.is_tidy) == (fresh.rejected, fresh.is_tidy)
    for line in after:
        assert changing.places_of(line.name) == fresh.places_of(line.name)


@given(st.lists(_lines, max_size=8), st.lists(_lines, max_size=4), st.integers(0, 2))
def test_a_map_is_edited_by_whole_lines(lines: list[Line], news: list[Line], gone: int) -> None:
    names = NameMap(_RANGE, "".join(map(str, lines)))
    news = [line for line in news if line.coordinate not in names][:1]
    gone_places = sorted({line.coordinate for line in lines})[:gone]
    edits = names.edits(gone_places, news)
    kept = {line.coordinate: line for line in names.lines() if line.coordinate not in gone_places}
    names.read(apply_edits(names.text, edits))
    assert {line.coordinate: line for line in names.lines()} == {
        **kept,
        **{line.coordinate: line for line in news},
    }


def test_lines_that_follow_each_other_go_by_one_edit() -> None:
    lines = [Line(place, f"{i}.md") for i, place in enumerate(_PLACES[:3])]
    text = "".join(map(str, lines))
    edits = NameMap(_RANGE, text).edits(_PLACES[:2], ())
    assert edits == [(0, len(text) - len(str(lines[2])), "")]


def test_a_mark_has_a_number_once_it_was_changed_again() -> None:
    names = NameMap(_RANGE)
    rows = []
    for marks in ("x", "", "px"):
        line = Line(_PLACES[0], "n.md", marks)
        names.read("".join(new for _, _, new in names.edits([_PLACES[0]], [line])))
        rows.append(names.text)
        assert marks_of(names.line_at(_PLACES[0])) == marks
    assert rows == [f"{_PLACES[0]} n.md\t{end}\n" for end in ("x", "x2", "px3")]
    assert marks_of(names.line_at(_PLACES[1])) == ""


def test_a_last_line_without_an_end_that_changes_is_read_again() -> None:
    before, after = (Line(_PLACES[0], name) for name in ("one.md", "another.md"))
    names = NameMap(_RANGE, str(before).rstrip("\n"))
    assert names.read(str(after).rstrip("\n")) == {_PLACES[0]}
    assert [*names.lines()] == [after]
    assert names.is_tidy


@pytest.mark.parametrize("name", ["a.md", "z.md"])
def test_a_line_that_somebody_left_without_an_end_stays_alone(name: str) -> None:
    first, second = (Line(place, n) for place, n in zip(_PLACES, ("m.md", name), strict=False))
    names = NameMap(_RANGE, str(first).rstrip("\n"))
    text = apply_edits(names.text, names.edits((), [second]))
    assert sorted(line.name for line in NameMap(_RANGE, text).lines()) == sorted(["m.md", name])


def test_of_several_lines_of_one_scroll_the_least_counts_and_tidying_leaves_it() -> None:
    lines = [Line(_PLACES[0], name) for name in ("b.md", "a.md", "c.md")]
    names = NameMap(_RANGE, "".join(map(str, lines)))
    assert names.line_at(_PLACES[0]) == lines[1]
    assert names.places_of("b.md") == []
    assert not names.is_tidy
    names.read(apply_edits(names.text, names.tidy()))
    assert (names.text, names.is_tidy) == (str(lines[1]), True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("what?", "expected nine"),
        ("1.1.1/1.1.1/1.1.1 n.md", "expected a coordinate in 7"),
        (f"{_RANGE.lower} n.md", "found that of the map itself"),
        (f"{_PLACES[0]} ../up.md", "expected the name of a file below the directory"),
        (f"{_PLACES[0]} /etc/passwd", "expected the name of a file below the directory"),
        (f"{_PLACES[0]} sub/identity.pem", "the keys or the data of a node do not have"),
        (f"{_PLACES[0]} Data.mdb/n.md", "the keys or the data of a node do not have"),
        (f"{_PLACES[0]} a//b", "expected the name of a file below the directory"),
        (f"{_PLACES[0]} a/./b", "expected the name of a file below the directory"),
        (f"{_PLACES[0]} ", "expected the name of a file below the directory"),
        (f"{_PLACES[0]} a\x1b[2J", "without control characters"),
        (f"{_PLACES[0]} a\0b", "without control characters"),
        (f"{_PLACES[0]} a\u2028b", "without control characters"),
        (f"{_PLACES[0]} {'x' * 256}", "at most 255 bytes between two /, found 256"),
        (f"{_PLACES[0]} {'x/' * 1600}x", "at most 3072 bytes, found 3201"),
    ],
)
def test_a_line_that_could_be_no_file_of_the_range_does_not_count(row: str, reason: str) -> None:
    good = Line(_PLACES[1], "n.md")
    names = NameMap(_RANGE, f"{row}\n{good}")
    assert [*names.lines()] == [good]
    assert list(names.rejected) == [row]
    assert names.rejected[row].startswith("expected ")
    assert reason in names.rejected[row]
    names.read(str(good))
    assert not names.rejected


def test_two_machines_give_a_name_one_place() -> None:
    names = NameMap(_RANGE)
    place = names.free_place("n.md", lambda place: True)
    assert str(place).startswith("7.1.1/1.1.2/")
    assert names.free_place("n.md", lambda place: True) == place
    assert names.free_place("n.md", lambda other: other != place) != place
    assert str(names.free_place("2026-11-25.md", lambda place: True)) == "7.1.1/1.1.3/26.11.25"
    assert str(names.free_place("2026-00-25.md", lambda place: True)).startswith("7.1.1/1.1.2/")


def test_a_range_needs_four_free_parts() -> None:
    assert prefix_of(CoordinateRange.parse("7.1.1/2.*")) == (7, 1, 1, 2)
    for text in ("8.1.1/1.1.1/*", "7.1.1/1.1.1/1.1.1..7.1.1/1.1.1/1.2.1"):
        with pytest.raises(CoordinateError, match="a prefix with four free parts"):
            prefix_of(CoordinateRange.parse(text))


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(PhextsyncError, match="expected a name in UTF-8"):
        check_name("caf\udce9")


# -- layout --------------------------------------------------------------------------------

_few = st.sampled_from(
    ["a", "A", "b", "a/b", "a/B", "a/b/c", "A/c", "a~file", "a~file/x", "a~2", "caf\u00e9",
     "cafe\u0301", "y" * 200, "y" * 199 + "z", "a~file2"]
)  # fmt: skip
_abilities = st.builds(Abilities, st.sampled_from([255, 143]), st.booleans(), st.booleans())
_changes = st.dictionaries(st.sampled_from(_PLACES), st.none() | _few, max_size=3)


def _check(names: dict[Coordinate, str], paths: dict[Coordinate, str], can: Abilities) -> None:
    """Every scroll has a path that is its own, and no file is a folder of another."""
    keys = [can.key(path) for path in paths.values()]
    assert {*paths} == {*names}
    assert len({*keys}) == len(keys)
    for key in keys:
        folders = [key[:i] for i, character in enumerate(key) if character == "/"]
        assert not {*folders} & {*keys}
    for path in paths.values():
        assert all(len(part.encode()) <= can.part_bytes_max for part in path.split("/"))


@given(_abilities, st.lists(_changes, max_size=8))
def test_paths_found_step_by_step_are_those_found_at_once(
    abilities: Abilities, steps: list[dict[Coordinate, str | None]]
) -> None:
    layout = Layout(abilities)
    names: dict[Coordinate, str] = {}
    for step in steps:
        before = {c: layout.path_of(c) for c in _PLACES}
        changed = layout.update(step)
        names = {c: name for c, name in {**names, **step}.items() if name is not None}
        paths = paths_of(names, abilities)
        after = {c: layout.path_of(c) for c in _PLACES}
        assert {c: path for c, path in after.items() if path is not None} == paths
        assert {c for c in _PLACES if before[c] != after[c]} <= changed
        assert {layout.at(path) for path in paths.values()} == {*paths}
        assert layout.yielding() == {
            c: (names[c], path) for c, path in sorted(paths.items()) if path != names[c]
        }
        _check(names, paths, abilities)


@given(_abilities, st.dictionaries(st.sampled_from(_PLACES), _few), st.integers(0, 99))
def test_paths_do_not_depend_on_the_order_of_names(
    abilities: Abilities, names: dict[Coordinate, str], seed: int
) -> None:
    shuffled = list(names.items())
    Random(seed).shuffle(shuffled)
    assert paths_of(dict(shuffled), abilities) == paths_of(names, abilities)


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["a", "a/b"], ["a~file", "a/b"]),
        (["a", "a/b", "a~file"], ["a~file2", "a/b", "a~file"]),
        (["a", "a"], ["a", "a~2"]),
        (["A", "a"], ["A", "a~2"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9~2", "cafe\u0301"]),
    ],
)
def test_what_cannot_lie_at_its_name_makes_room(names: list[str], paths: list[str]) -> None:
    abilities = Abilities(folds_case=True, normalizes=True)
    found = paths_of(dict(zip(_PLACES, names, strict=False)), abilities)
    assert [found[place] for place in _PLACES[: len(names)]] == paths


def test_where_letters_of_both_cases_differ_both_names_stay() -> None:
    names = dict(zip(_PLACES, ["A", "a"], strict=False))
    assert paths_of(names, Abilities()) == names


# -- ignoring ------------------------------------------------------------------------------


def test_patterns_are_those_of_a_gitignore() -> None:
    rules = Ignoring("# mine\n*.log\n!keep.log\nbuild/\n/top.md\n**/deep/*.md\n!draft.bak\n")
    covered = {
        path: rules.covers(path)
        for path in (
            *("a.log", "sub/a.log", "keep.log", "build/out", "sub/build/x", "top.md", "sub/top.md"),
            *("x/deep/a.md", "a.md", "draft.bak", "other.bak", ".hidden", "a/.git/config"),
            *("n.md~", "n.md.swp", "x___jb_tmp___", IGNORE_FILE, f"sub/{IGNORE_FILE}"),
        )
    }
    assert [path for path, is_covered in covered.items() if not is_covered] == [
        *("keep.log", "sub/top.md", "a.md", "draft.bak", IGNORE_FILE)
    ]
    assert rules.covers("build", is_folder=True)
    assert not rules.covers("build")


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(PhextsyncError, match="expected patterns as in a"):
        Ignoring("!\n")


_globs = st.lists(
    st.sampled_from(["a", "b", ".", "(", "*", "*", "?", "/", "**", "/**/", "[ab]", "[]b]", r"\*"]),
    min_size=1,
    max_size=9,
).map("".join)
_few_letters = st.lists(st.text("ab*(]", min_size=1, max_size=5), min_size=1, max_size=5).map(
    "/".join
)


@given(_globs, _few_letters, st.booleans())
def test_a_pattern_covers_what_it_covers_in_a_gitignore(
    pattern: str, path: str, is_folder: bool
) -> None:
    try:
        spec = GitIgnoreSpec.from_lines([pattern])
    except ValueError:
        return
    path = f"{path}/" if is_folder else path
    wanted = spec.check_file(path).include
    assert Ignoring(pattern).covers(path.rstrip("/"), is_folder=is_folder) == bool(wanted)


@pytest.mark.parametrize("pattern", ["*a" * 50 + "*b", "**/*a*/" * 50 + "b", "*[ab]?" * 50 + "*c"])
def test_a_pattern_with_many_stars_takes_no_time(pattern: str) -> None:
    ignoring = Ignoring(pattern)
    assert not ignoring.covers("a" * 250 + "d")
    assert not ignoring.covers("/".join(["a"] * 1000))
    assert ignoring.covers("/".join(["a" * 200] * 60 + ["b"])) == ("/" in pattern)


def test_no_class_of_characters_has_a_slash() -> None:
    assert Ignoring("a[!b]c").covers("axc")
    assert not Ignoring("a[!b]c").covers("a/c")
