"""JSON and TOML from elsewhere are read up to a depth, whoever asks, or refused in one line."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import PhextsyncError
from phextsync.gateways.told_cursors import told_by
from phextsync.hosts.insertions import into_json, into_toml
from phextsync.plain_values import DEPTH_MAX, read_json, read_json_at, read_toml
from phextsync.web.awareness import _check

_TOO_DEEP = f"expected at most {DEPTH_MAX} levels of lists and objects, found more"


def _nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 900, 100_000])
@pytest.mark.parametrize(
    "read",
    [
        read_json,
        lambda text: read_json(text.encode()),
        lambda text: read_json(f'[{{}}, "x", {text[1:-1]}]'),
        lambda text: read_json(text.replace("[", '{"a":').replace("]", "}")),
        lambda text: read_json_at(f"  {text} rest", 2),
        lambda text: read_toml(f"x = {text}"),
        lambda text: read_toml("[" + ".".join(len(text) // 2 * "a") + "]"),
    ],
)
def test_what_is_nested_too_deeply_is_an_error_as_any_other(
    read: Callable[[str], object], levels: int
) -> None:
    with pytest.raises(ValueError, match=f"^{_TOO_DEEP}$"):
        read(_nested(levels))


def test_what_is_nested_as_deeply_as_may_be_is_read_and_written_from_anywhere() -> None:
    value = read_json(_nested(DEPTH_MAX))
    assert json.dumps(value) == _nested(DEPTH_MAX)
    assert read_json_at(f"x{_nested(DEPTH_MAX)} rest", 1) == (value, 2 * DEPTH_MAX + 2)
    assert read_toml(f"x = {_nested(DEPTH_MAX - 1)}") == {"x": value[0]}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)


@given(_VALUES, st.text())
def test_any_value_is_what_json_has(value: object, rest: str) -> None:
    text = json.dumps(value)
    assert read_json(text) == value
    assert read_json_at(f"{text} {rest}") == (value, len(text))


@pytest.mark.parametrize("text", ["", "[", "{'a': 1}", "nul", b"\xff", "1" * 5000])
def test_what_is_no_json_is_an_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


@pytest.mark.parametrize("levels", [200, 900])
def test_what_one_could_read_and_another_not_is_taken_by_nobody(levels: int) -> None:
    deep = _nested(levels)
    with pytest.raises(PhextsyncError, match=r"^expected awareness as JSON"):
        _check(f'{{"user": {deep}}}')
    assert not told_by({"yjs:1": f'1.1.1/1.1.1/1.1.1 1 {{"user": {deep}}} memory'})
    with pytest.raises(PhextsyncError, match=r"^found no JSON"):
        into_json(f'{{"a": {deep}}}', ["mcpServers"], "phextsync", {"command": "x"})
    with pytest.raises(PhextsyncError, match=r"^found no TOML"):
        into_toml(f"a = {deep}", "mcp_servers", "phextsync", {"command": "x"})
