"""The pages lead where they say, name what exists, and the generated ones are up to date."""

import re
import shlex
from pathlib import Path
from typing import Any, cast

import pytest
import typer

import phextsync
from docs import build_site, generate
from phextsync.cli.main import app

_ROOT = Path(__file__).parents[1]
_DOCS = _ROOT / "docs"
_PAGES = sorted(
    [*_DOCS.rglob("*.md"), *_ROOT.glob("*.md"), *(_ROOT / "integrations").rglob("*.md")]
)
_SOURCES = sorted(
    path
    for folder in ("phextsync", "sims", "tests", "benchmarks", "fuzz", "examples")
    for ending in ("py", "pyx", "pxd", "toml")
    for path in (_ROOT / folder).rglob(f"*.{ending}")
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FOLDERS = "phextsync|docs|tests|sims|benchmarks|fuzz|examples|integrations"
_FILE = re.compile(rf"`((?:{_FOLDERS})/[\w./-]+)(?:::\w+)?`")
_NAMED = re.compile(r"`phextsync ([a-z][^`{}\"\n]*)")
_TYPED = re.compile(r"(?:^ {4,}|\$ |`|\| |\()phextsync ([a-z][^`\n]*)", re.MULTILINE)
_PAGE = re.compile(r"\bdocs/[a-z/-]+\.md\b")


def _name(path: Path) -> str:
    return str(path.relative_to(_ROOT))


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(anchor if anchor not in found else f"{anchor}-1")
    return found


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = {name.rstrip("/") for name in _FILE.findall(page.read_text())}
    assert {name for name in named if not (_ROOT / name).exists()} == set()


def test_every_page_and_file_that_the_code_names_exists() -> None:
    named = {
        (_name(path), name)
        for path in _SOURCES
        for name in (*_PAGE.findall(path.read_text()), *_FILE.findall(path.read_text()))
        if not (_ROOT / name).exists() and name != "docs/NAME"  # of a report to come
    }
    assert named == set()


def test_the_index_has_every_page() -> None:
    linked = {
        (_DOCS / link.partition("#")[0]).resolve()
        for link in _LINK.findall((_DOCS / "index.md").read_text())
    }
    reports = {_DOCS / "explanation" / "simulations" / "report.md"}
    assert set(_DOCS.rglob("*.md")) - reports - {_DOCS / "index.md"} - linked == set()


@pytest.mark.parametrize("name", sorted(generate.pages()))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    found = (generate.FOLDER / name).read_text()
    assert found == generate.pages()[name], "write them again: python -m docs.generate"


def test_every_public_name_has_its_place_in_the_reference() -> None:
    apart = {"__version__", "aio"}  # a text and a module
    assert set(phextsync.__all__) - apart - generate.documented() == set()


def test_the_site_has_every_page_in_its_room() -> None:
    rooms = [room for room in build_site.navigation() if "Tutorial" not in room]
    found = ["docs/tutorial.md"]
    for pages in (pages for room in rooms for pages in room.values()):
        found += cast("list[str]", pages)
    assert sorted(found) == sorted(map(_name, _PAGES))


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<script src="https://a.b/c.js">', ["https://a.b/c.js"]),
        ('<link rel="stylesheet" href="//a.b/c">', ["//a.b/c"]),
        ("<img alt=x src=http://a.b/c.png>", ["http://a.b/c.png"]),
        ('<a href="https://a.b">x</a><script src="../x.js">', []),
    ],
)
def test_what_a_page_of_the_site_loads_from_elsewhere_is_found(page: str, found: list[str]) -> None:
    assert [*build_site.elsewhere(page)] == found


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    for line in _TYPED.findall(page.read_text()):
        _check_command(shlex.split(re.split(r" [|>#] |\)", line)[0].replace("'", "")), line)


def test_every_command_that_a_message_names_exists_with_its_options() -> None:
    named = [
        line
        for path in sorted(Path(phextsync.__file__).parent.rglob("*.py"))
        for line in _NAMED.findall(path.read_text())
    ]
    assert len(named) > 20
    for line in named:
        _check_command([word for word in line.split() if word != "--"], line)


def _check_command(words: list[str], line: str) -> None:
    command: Any = typer.main.get_command(app)
    group = command
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command is not group, line
    options = {opt for each in command.params for opt in (*each.opts, *each.secondary_opts)}
    asked = {word for word in words if word.startswith("--")}
    assert asked - options - {"--help"} == set(), line
