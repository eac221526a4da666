"""Every promise of the pages on security and directories names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_DOCS = _TESTS.parent / "docs"
_NAMED = re.compile(r"`(test_\w+)\.py::(test_\w+)`")


_PAGES = {
    "explanation/security.md": 30,
    "howto/directories.md": 30,
    "howto/run-as-a-service.md": 5,
    "howto/memory-stores.md": 8,
    "howto/memory-tool.md": 10,
}
"""Pages of promises, and how many tests each names at least."""


@pytest.mark.parametrize("page", _PAGES)
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    named = _NAMED.findall((_DOCS / page).read_text())
    missing = [f"{file}::{name}" for file, name in named if name not in _functions(file)]
    assert len(named) > _PAGES[page]
    assert not missing


@pytest.mark.parametrize("page", _PAGES)
def test_every_row_of_promises_names_a_test(page: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", (_DOCS / page).read_text(), re.MULTILINE)
    rows = [
        row
        for head, _, *rows in map(str.splitlines, tables)
        for row in (rows if "held by" in head else ())
    ]
    assert len(rows) > _PAGES[page] // 4
    assert [row for row in rows if not _NAMED.search(row) and "sims/" not in row] == []


def _functions(file: str) -> set[str]:
    tree = ast.parse((_TESTS / f"{file}.py").read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
