"""A node is meant by its name, its id or the start of one, and by nothing that could be two."""

import pytest

from phextsync.control.node_names import node_named
from phextsync.errors import PhextsyncError

_NAMES = {"ab" * 16: "desk", "ab" * 4 + "cd" * 12: "attic", "ef" * 16: "", "12" * 16: "twin"}
_STRANGER = "34" * 16


@pytest.mark.parametrize(
    ("text", "node_id"),
    [("desk", "ab" * 16), ("ab" * 5, "ab" * 16), ("EFEFEFEF", "ef" * 16), ("12" * 16, "12" * 16)],
)
def test_a_node_is_meant_by_its_name_or_the_start_of_its_id(text: str, node_id: str) -> None:
    assert node_named(text, _NAMES) == node_id


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "''"), ("abababab", "2 of that name"), ("efefefe", "'efefefe'"), (_STRANGER, _STRANGER)],
)
def test_a_name_of_none_or_of_several_is_refused(text: str, found: str) -> None:
    with pytest.raises(PhextsyncError, match=r"expected a node that is known here \(attic, desk"):
        node_named(text, _NAMES)
    with pytest.raises(PhextsyncError, match=found):
        node_named(text, _NAMES)


def test_a_node_that_nobody_knows_is_meant_by_its_whole_id_where_any_may_be() -> None:
    assert node_named(_STRANGER.upper(), _NAMES, takes_any_id=True) == _STRANGER
    with pytest.raises(PhextsyncError, match="or its id"):
        node_named(_STRANGER[:-1], _NAMES, takes_any_id=True)
