"""Every promise of docs/security.md names a test that exists."""

import ast
import re
from pathlib import Path

_TESTS = Path(__file__).parent
_PAGE = _TESTS.parent / "docs" / "security.md"
_NAMED = re.compile(r"`(test_\w+)\.py::(test_\w+)`")


def test_every_promise_names_a_test_that_exists() -> None:
    named = _NAMED.findall(_PAGE.read_text())
    missing = [f"{file}::{name}" for file, name in named if name not in _functions(file)]
    assert len(named) > 30
    assert not missing


def test_every_row_of_promises_names_a_test() -> None:
    rows = [line for line in _PAGE.read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| ---", "| promise", "| limit"))]
    assert [row for row in promises if not _NAMED.search(row) and "sims/" not in row] == []


def _functions(file: str) -> set[str]:
    tree = ast.parse((_TESTS / f"{file}.py").read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
