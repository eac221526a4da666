"""The house stands as its plan says: directions of imports, and what the core may not touch."""

import ast
import re
from pathlib import Path

import pytest

import phextsync

_ROOT = Path(phextsync.__file__).parent
_ROOMS = re.findall(r"^\* `(\w+)`:", phextsync.__doc__ or "", re.MULTILINE)
_CORE = _ROOMS[: _ROOMS.index("boundaries")]
_IO = {"trio", "asyncio", "socket", "threading", "logging", "time", "zeroconf", "ssl"}


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_every_module_is_a_room_of_the_map() -> None:
    modules = {path.stem for path in _ROOT.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in _ROOT.glob("*/__init__.py")}
    assert modules | packages == set(_ROOMS)


@pytest.mark.parametrize("room", _ROOMS)
def test_a_room_imports_only_rooms_listed_before_it(room: str) -> None:
    path = _ROOT / f"{room}.py"
    if not path.exists():
        path = _ROOT / room / "__init__.py"
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("phextsync.")}
    assert used & set(_ROOMS) - {room} <= set(_ROOMS[: _ROOMS.index(room)])


@pytest.mark.parametrize("room", [room for room in _CORE if room != "index"])
def test_the_core_touches_neither_network_nor_clock_nor_threads(room: str) -> None:
    assert not {name.split(".")[0] for name in _imports(_ROOT / f"{room}.py")} & _IO


@pytest.mark.parametrize("room", ["transport", "discovery"])
def test_links_and_discovery_know_nothing_of_what_is_replicated(room: str) -> None:
    used = {name.split(".")[1] for name in _imports(_ROOT / f"{room}.py") if "phextsync." in name}
    assert not used & {"protocol", "replica", "crdt", "store", "reconcile"}
