"""The table of operations holds: each row is served, answered in its form, and asked for by all."""

import ast
import inspect
from pathlib import Path
from types import UnionType
from typing import get_args

import pytest

import phextsync
from fuzz.desk import Node as DeskNode
from phextsync import Node, Replica, aio
from phextsync.control.arguments import check_arguments
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.control.kinds import Argument
from phextsync.control.operations import (
    OPERATIONS,
    Operation,
    Serving,
)
from phextsync.control.sessions import Session
from phextsync.errors import PhextsyncError, ProtocolError
from phextsync.files.desk import FileDesk
from phextsync.gateways.quarantine_tools import QUARANTINE_TOOLS
from phextsync.gateways.tools import TOOLS
from phextsync.handles.awaiting import AsyncChanges, AsyncSteps
from phextsync.handles.blocking import Handle
from phextsync.handles.changes import Changes
from phextsync.handles.phexts import Phext
from phextsync.handles.steps import Steps
from phextsync.index import OpenTexts
from phextsync.replica.views import RangeView

_A = "1.1.1/1.1.1/1.1.1"
_ROOT = Path(phextsync.__file__).parent
_SAMPLES: dict[type, list[Value]] = {
    str: ["one", _A, "*"],
    int: [0],
    float: [0.5],
    bytes: [b""],
    bool: [False],
    list: [[]],
}


def _kinds(argument: Argument) -> tuple[type, ...]:
    found = get_args(argument.kind) if isinstance(argument.kind, UnionType) else (argument.kind,)
    return tuple(kind for kind in found if isinstance(kind, type) and kind in _SAMPLES)


def _sample(argument: Argument) -> Value:
    if argument.what == "the name of a phext":
        return "memory"
    fit = {"a coordinate": _A, "a range": "*", "a coordinate or nothing": ""}
    return fit.get(argument.what, _SAMPLES[_kinds(argument)[0]][0])


async def _serve(session: Session, request: list[Value]) -> Value:
    serving = OPERATIONS[str(request[0])].serving
    if serving is Serving.LASTS:
        session.begin(1, request)
        return None
    if serving is Serving.WAITS:
        return await session.wait(request)
    return session.desk.ask(request)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    node = DeskNode()
    node.directories = FileDesk(node.replicas, tmp_path)
    return Session(Desk(node), b"me")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_each_operation_is_served_and_answered_in_its_form(
    session: Session, operation: Operation[object]
) -> None:
    request: list[Value] = [operation.name, *map(_sample, operation.arguments)]
    check_arguments(request)
    try:
        answer = await _serve(session, request)
    except ProtocolError:
        raise
    except (PhextsyncError, IndexError):
        return  # it was understood: there is no such text, file or conflict
    assert operation.answer.encode(operation.answer.decode(answer)) == answer


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_an_operation_without_its_arguments_is_refused(
    session: Session, operation: Operation[object]
) -> None:
    if operation.arguments:
        with pytest.raises(ProtocolError, match="expected"):
            await _serve(session, [operation.name])


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_argument_of_another_type_is_a_type_error_of_the_caller(
    operation: Operation[object],
) -> None:
    right = list(map(_sample, operation.arguments))
    for i, argument in enumerate(operation.arguments):
        for kind in set(_SAMPLES) - set(_kinds(argument)):
            request = [operation.name, *right[:i], _SAMPLES[kind][0], *right[i + 1 :]]
            with pytest.raises(TypeError, match=f"expected {argument.what}, found "):
                check_arguments(request)


def _asked_for(path: Path) -> set[str]:
    """Return the names of operations of the table that a module uses."""
    names = {
        name
        for name, value in vars(phextsync.control.operations).items()
        if isinstance(value, Operation)
    }
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    return names & used


def test_both_handles_ask_for_the_same() -> None:
    handles = _ROOT / "handles"
    blocking = [handles / f"{name}.py" for name in ("blocking", "phexts", "steps", "changes")]
    awaited = [_ROOT / "aio.py", handles / "awaiting.py"]
    assert set().union(*map(_asked_for, blocking)) == set().union(*map(_asked_for, awaited))


def test_every_operation_is_asked_for_by_a_handle_a_command_or_a_gateway() -> None:
    paths = [_ROOT / "aio.py", _ROOT / "files" / "desk.py", *(_ROOT / "cli").glob("*.py")]
    paths += [_ROOT / "handles" / "awaiting.py", _ROOT / "control" / "taking_back.py"]
    paths += (_ROOT / "gateways").glob("*.py")
    paths += [_ROOT / "agents" / "quarantine.py", _ROOT / "control" / "quarantine.py"]
    used = {name for path in paths for name in _asked_for(path)}
    rows = {
        value.name: name
        for name, value in vars(phextsync.control.operations).items()
        if isinstance(value, Operation)
    }
    assert set(rows.values()) == used


def test_a_tool_writes_where_its_operation_changes_something() -> None:
    writing = {"write", "append", "replace", "mail_send", "mail_ack", "task_add", "task_claim"}
    writing |= {"task_keep", "task_done", "task_fail", "task_retry"}
    writing |= QUARANTINE_TOOLS - {"quarantine_list"}
    assert {tool.name for tool in TOOLS.values() if tool.writes} == writing


def _names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def _takes(kind: type, name: str) -> list[str]:
    found = getattr(kind, name)
    return list(inspect.signature(found).parameters) if callable(found) else ["self"]


# What is done by other means: a block in place of `close`, `peek` in place of what is read at once.
_BLOCKING_ONLY = {"close", "popitem", "scrolls", *_names(OpenTexts)}
_ASYNC_ONLY = {"peek", "count", "keys", "range"}


@pytest.mark.parametrize(
    ("blocking", "other"),
    [
        (Handle, aio.AsyncHandle),
        (Phext, aio.AsyncPhext),
        (Steps, AsyncSteps),
        (Changes, AsyncChanges),
        (RangeView, aio.AsyncRange),
    ],
)
def test_what_means_the_same_has_one_name_and_takes_the_same(blocking: type, other: type) -> None:
    assert _names(other) - _names(blocking) <= _ASYNC_ONLY
    assert (_names(blocking) - _names(other)) - set(dir(dict)) <= _BLOCKING_ONLY
    for name in _names(blocking) & _names(other):
        assert _takes(blocking, name) == _takes(other, name), name


@pytest.mark.parametrize(("blocking", "other"), [(Handle, Node), (Phext, Replica)])
def test_what_a_handle_takes_begins_as_what_the_node_takes(blocking: type, other: type) -> None:
    """A handle has `seen` and `timeout_s` besides; a replica, what only merging needs."""
    for name in _names(blocking) & _names(other) - set(dir(dict)):
        ours, theirs = _takes(blocking, name), _takes(other, name)
        common = min(len(ours), len(theirs))
        assert ours[:common] == theirs[:common], name
