"""The house stands as its plan says: directions of imports, and what the core may not touch."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import phextsync

_ROOT = Path(phextsync.__file__).parent
_ROOMS = re.findall(r"^\* `(\w+)`:", phextsync.__doc__ or "", re.MULTILINE)
_CORE = _ROOMS[: _ROOMS.index("boundaries")]
_IO = {"trio", "asyncio", "socket", "threading", "logging", "time", "zeroconf", "ssl"}
_HERE = Path(__file__).parents[1]
_PACKAGES = ("phextsync", "sims", "benchmarks", "fuzz")
_LINES_MAX = 500
_FUNCTION_LINES_MAX = 50
_MAPPED = [room for room in _ROOMS if (_ROOT / room).is_dir() and room not in ("index", "testing")]


@cache
def _nodes(path: Path) -> list[ast.AST]:
    """Return what a file consists of: several tests look at each."""
    return [*ast.walk(ast.parse(path.read_text()))]


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports, as dotted names."""
    found: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _files(room: str) -> list[Path]:
    path = _ROOT / f"{room}.py"
    return [path] if path.exists() else sorted((_ROOT / room).rglob("*.py"))


def _map_of(package: str) -> list[str]:
    """Return the modules that a package lists in its first lines, in order."""
    source = (_ROOT / package / "__init__.py").read_text()
    return re.findall(r"^\* `(\w+)`:", ast.get_docstring(ast.parse(source)) or "", re.MULTILINE)


def test_every_module_is_a_room_of_the_map() -> None:
    modules = {path.stem for path in _ROOT.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in _ROOT.glob("*/__init__.py")}
    assert modules | packages == set(_ROOMS)


@pytest.mark.parametrize("room", _ROOMS)
def test_a_room_imports_only_rooms_listed_before_it(room: str) -> None:
    names = {name for path in _files(room) for name in _imports(path)}
    used = {name.split(".")[1] for name in names if name.startswith("phextsync.")}
    assert used & set(_ROOMS) - {room} <= set(_ROOMS[: _ROOMS.index(room)])


def test_the_linter_holds_the_order_of_the_map() -> None:
    project = tomllib.loads((_ROOT.parent / "pyproject.toml").read_text())
    (contract,) = project["tool"]["importlinter"]["contracts"]
    assert [layer.split(".")[1] for layer in reversed(contract["layers"])] == _ROOMS


@pytest.mark.parametrize("package", _MAPPED)
def test_a_package_lists_its_modules_and_each_imports_only_those_before_it(package: str) -> None:
    listed = _map_of(package)
    files = {path.stem for path in (_ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    assert set(listed) == files
    for module in listed:
        names = _imports(_ROOT / package / f"{module}.py")
        prefix = f"phextsync.{package}."
        used = {name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)}
        assert used & files - {module} <= set(listed[: listed.index(module)]), module


@pytest.mark.parametrize("room", [room for room in _CORE if room != "index"])
def test_the_core_touches_neither_network_nor_clock_nor_threads(room: str) -> None:
    for path in _files(room):
        assert not {name.split(".")[0] for name in _imports(path)} & _IO, path.name


@pytest.mark.parametrize("room", ["framing", "transport", "discovery"])
def test_links_and_discovery_know_nothing_of_what_is_replicated(room: str) -> None:
    used = {name.split(".")[1] for name in _imports(_ROOT / f"{room}.py") if "phextsync." in name}
    assert not used & {"sync", "replica", "crdt", "store"}


def test_a_logger_is_named_after_the_room_that_it_is_of() -> None:
    page = (_HERE / "docs" / "reference" / "configuration.md").read_text()
    listed = set(re.findall(r"^\| `phextsync\.(\w+)` \|", page, re.MULTILINE))
    found = {
        (room, name)
        for room in _ROOMS
        for path in _files(room)
        for name in re.findall(r'getLogger\("([^"]*)"\)', path.read_text())
        if name.startswith("phextsync.")
    }
    assert found == {(room, f"phextsync.{room}") for room, _ in found}
    assert {room for room, _ in found} - {"testing"} == listed


@pytest.mark.parametrize("room", _ROOMS)
def test_json_and_toml_are_read_by_one_reader(room: str) -> None:
    """How deep Python reads depends on who calls, and its error is none of a value: only
    `plain_values` knows of it."""
    if room == "plain_values":
        return
    for path in _files(room):
        names = {node.id for node in _nodes(path) if isinstance(node, ast.Name)}
        read = {
            node.attr
            for node in _nodes(path)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("json", "tomllib")
        }
        assert not read & {"load", "loads", "JSONDecoder"}, path
        assert "RecursionError" not in names, path
        assert not _imports(path) & {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}


def test_a_module_is_short_or_design_says_why_it_is_long() -> None:
    design = (_HERE / "docs" / "explanation" / "design.md").read_text()
    section = design.partition("## Long modules\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\* `([\w/.]+)`:", section, re.MULTILINE))
    long = {
        str(path.relative_to(_HERE))
        for package in _PACKAGES
        for path in (_HERE / package).rglob("*.p[xy]*")
        if path.suffix in (".py", ".pyx", ".pxd")
        and len(path.read_text().splitlines()) > _LINES_MAX
    }
    assert named == long


def test_no_function_is_long() -> None:
    long = {
        f"{path.relative_to(_HERE)}: {node.name}"
        for package in (*_PACKAGES, "tests")
        for path in (_HERE / package).rglob("*.py")
        for node in _nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= _FUNCTION_LINES_MAX
    }
    assert not long
