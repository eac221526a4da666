"""Conflict copies of Syncthing are merged: nothing is lost, doubled, or done unasked."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from phextsync.cli.main import app
from phextsync.errors import DirectoryError, TextError
from phextsync.files.directory import BACKUPS
from phextsync.migrations.conflict_copies import carry_out, find_copies, merge

_COPY = "list.sync-conflict-20260301-120000-ABCDEF7.md"
_LATER = "list.sync-conflict-20260302-120000-KLMNOP2.md"
_BEFORE = ".stversions/list~20260228-090000.md"


def _write(directory: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


def _settle(directory: Path) -> None:
    for path, copies in find_copies(directory).items():
        for copy in copies:
            carry_out(directory, merge(directory, path, copy))


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["migrate", "syncthing", *words])


def _all(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in files}


def test_without_a_version_of_before_the_file_gets_the_lines_that_it_lacks(tmp_path: Path) -> None:
    _write(tmp_path, {"list.md": "milk\nbread\n", _COPY: "milk\neggs\n", _LATER: "milk\noil\n"})
    _settle(tmp_path)
    assert sorted((tmp_path / "list.md").read_text().split()) == ["bread", "eggs", "milk", "oil"]
    assert find_copies(tmp_path) == {}


def test_with_a_version_of_before_what_the_copy_deleted_goes(tmp_path: Path) -> None:
    _write(tmp_path, {"list.md": "milk\nbread\nsalt\n", _COPY: "milk\neggs\n"})
    _write(tmp_path, {_BEFORE: "milk\nbread\n"})
    _settle(tmp_path)
    assert set((tmp_path / "list.md").read_text().split()) == {"milk", "eggs", "salt"}


@pytest.mark.parametrize(
    ("file", "copies", "merged"),
    [
        ("figs\n", ["milk\n", "milk\n"], "figs\nmilk\n"),
        ("figs\nmilk\n", ["milk\n"], "figs\nmilk\n"),
        ("figs\n", ["milk\nfigs\n"], "milk\nfigs\n"),
        ("figs\n", ["milk\n", "milk\noil\n"], "figs\nmilk\noil\n"),
        ("figs\n", ["milk\nmilk\n", "milk\n"], "figs\nmilk\nmilk\n"),
        ("oil\neggs\n", ["eggs\noil\n"], "oil\neggs\noil\n"),  # at two places
    ],
)
def test_a_line_that_both_put_in_at_one_place_is_there_once(
    file: str, copies: list[str], merged: str, tmp_path: Path
) -> None:
    names = [_COPY, _LATER]
    _write(tmp_path, {"list.md": file, _BEFORE: "eggs\n", **dict(zip(names, copies, strict=False))})
    _settle(tmp_path)
    assert (tmp_path / "list.md").read_text() == merged


def test_a_version_that_is_younger_than_the_conflict_is_no_base(tmp_path: Path) -> None:
    _write(tmp_path, {"list.md": "milk\nbread\n", _COPY: "milk\n"})
    _write(tmp_path, {".stversions/list~20260301-120001.md": "milk\nbread\n"})
    _settle(tmp_path)
    assert (tmp_path / "list.md").read_text() == "milk\nbread\n"


def test_copies_and_the_text_of_before_are_kept_aside(tmp_path: Path) -> None:
    _write(tmp_path, {"a/list.md": "milk\n", f"a/{_COPY}": "eggs\n"})
    (tmp_path / "a/list.md").chmod(0o640)
    _settle(tmp_path)
    kept = {path.name: path.read_text() for path in (tmp_path / BACKUPS).iterdir()}
    assert sorted(kept.values()) == ["eggs\n", "milk\n"]
    assert {name.rpartition(".")[0] for name in kept} == {"a_list.md", f"a_{_COPY}"}
    assert (tmp_path / "a/list.md").stat().st_mode & 0o777 == 0o640


def test_a_copy_of_a_copy_is_one_of_the_file(tmp_path: Path) -> None:
    twice = _COPY.replace(".md", ".sync-conflict-20260305-120000-KLMNOP2.md")
    bare = "Makefile.sync-conflict-20260301-120000-ABCDEF7"
    _write(tmp_path, {"list.md": "", _COPY: "", twice: "", "Makefile": "", bare: ""})
    assert find_copies(tmp_path) == {"Makefile": [bare], "list.md": [_COPY, twice]}


@pytest.mark.parametrize("copies", [[_COPY], [_COPY, _LATER]])
def test_what_was_cut_short_before_a_copy_went_is_done_once(
    tmp_path: Path, copies: list[str]
) -> None:
    texts = {_COPY: "milk\neggs\n", _LATER: "milk\nbread\noil\n"}
    _write(tmp_path, {"list.md": "milk\nbread\nsalt\n", _BEFORE: "milk\nbread\n"})
    _write(tmp_path, {copy: texts[copy] for copy in copies})
    _settle(tmp_path)
    merged = (tmp_path / "list.md").read_text()
    _write(tmp_path, {copies[-1]: texts[copies[-1]]})
    _settle(tmp_path)
    assert (tmp_path / "list.md").read_text() == merged
    assert find_copies(tmp_path) == {}


def test_a_file_that_changes_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    _write(tmp_path, {"list.md": "milk\n", _COPY: "eggs\n"})
    planned = merge(tmp_path, "list.md", _COPY)
    (tmp_path / "list.md").write_text("oil\n")
    before = _all(tmp_path)
    with pytest.raises(DirectoryError, match=r"list\.md has changed meanwhile"):
        carry_out(tmp_path, planned)
    assert _all(tmp_path) == before


def test_links_and_other_files_are_not_read(tmp_path: Path) -> None:
    _write(tmp_path, {"secret": "key\n", "list.md": "milk\n"})
    os.symlink(tmp_path / "secret", tmp_path / _COPY)
    with pytest.raises(TextError, match=r"ABCDEF7\.md: expected a file, found a link"):
        merge(tmp_path, "list.md", _COPY)
    os.mkfifo(tmp_path / _LATER)
    with pytest.raises(TextError, match="expected a file"):
        merge(tmp_path, "list.md", _LATER)


def test_the_command_shows_first_and_changes_nothing(tmp_path: Path) -> None:
    _write(tmp_path, {"list.md": "milk\n", _COPY: "eggs\n", _BEFORE: "milk\n"})
    before = _all(tmp_path)
    shown = _run(str(tmp_path))
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        f"{_COPY}: to merge into list.md, by a version of before",
        "nothing is changed yet: --yes does it",
    ]
    assert _all(tmp_path) == before
    done = _run(str(tmp_path), "--yes")
    assert done.output == f"{_COPY}: merged into list.md, by a version of before\n"
    assert "no conflict copies" in _run(str(tmp_path), "--yes").output


def test_one_file_that_is_no_text_does_not_keep_the_others(tmp_path: Path) -> None:
    photo = "photo.sync-conflict-20260301-120000-ABCDEF7.jpg"
    _write(tmp_path, {"list.md": "milk\n", _COPY: "eggs\n"})
    _write(tmp_path, {"gone" + _LATER.removeprefix("list"): "x\n"})
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / photo).write_bytes(b"\xff\xd9")
    done = _run(str(tmp_path), "--yes")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert f"{_COPY}: merged into list.md" in lines
    assert "left as it is: photo.jpg: expected UTF-8, found other bytes at offset 0" in lines
    assert "gone.md is gone; give its name to the copy that you want" in done.output
    assert lines[-1] == "phextsync: 2 of 3 conflicts left as they are"
    assert (tmp_path / photo).exists()


def test_a_file_whose_name_is_no_utf_8_is_merged_too(tmp_path: Path) -> None:
    name, copy = (os.fsdecode(b"n\xff" + end) for end in (b".md", _COPY[4:].encode()))
    _write(tmp_path, {name: "milk\n", copy: "eggs\n", "list.md": "milk\n", _COPY: "eggs\n"})
    assert _run(str(tmp_path), "--yes").exit_code == 0
    assert (tmp_path / name).read_text() == (tmp_path / "list.md").read_text()
    assert find_copies(tmp_path) == {}


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    refused = _run(str(tmp_path / "none"))
    assert isinstance(refused.exception, DirectoryError)
    assert "expected a directory, found none at" in str(refused.exception)


_LINES = st.lists(st.sampled_from(["milk", "bread", "eggs", "oil", ""]), max_size=6)


@given(ours=_LINES, theirs=st.lists(_LINES, min_size=1, max_size=3))
def test_no_line_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, ours: list[str], theirs: list[list[str]]
) -> None:
    directory = tmp_path_factory.mktemp("lines")
    names = [_COPY.replace("20260301", f"2026030{i}") for i in range(1, 1 + len(theirs))]
    texts = ["".join(f"{line}\n" for line in lines) for lines in (ours, *theirs)]
    _write(directory, dict(zip(["list.md", *names], texts, strict=True)))
    _settle(directory)
    merged = (directory / "list.md").read_text()
    most = Counter[str]()
    for lines in (ours, *theirs):
        most |= Counter(lines)
    assert Counter(merged.splitlines()) == most
