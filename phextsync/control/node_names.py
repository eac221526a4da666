"""Node names: which node people mean by a name, an id, or the start of one."""

import re
from collections.abc import Mapping
from typing import Final

from phextsync.control.status import Status
from phextsync.errors import PhextsyncError

SHOWN_CHARACTERS: Final = 8
"""How much of an id is shown; so much of it names a node, too."""

_NODE_ID: Final = re.compile(r"[0-9a-f]{32}")


def is_node_id(text: str) -> bool:
    """Whether a text is a whole node id in hexadecimal."""
    return _NODE_ID.fullmatch(text) is not None


def names_of(status: Status) -> dict[str, str]:
    """Return the names of the nodes that a status tells of, by their ids."""
    absent = {row.node_id: row.name for row in status.absent if row.node_id}
    peers = {row.node_id: row.name for row in status.peers}
    return absent | peers | {status.node_id: status.name}


def node_named(text: str, names: Mapping[str, str], *, takes_any_id: bool = False) -> str:
    """Return the id of the node that is meant, of those that have `names`, or, where it takes any
    id, of any. PhextsyncError when it is none of them, or not clear which."""
    found = {id_ for id_, name in names.items() if name == text != ""}
    if not found and len(text) >= SHOWN_CHARACTERS:
        found = {id_ for id_ in names if id_.startswith(text.lower())}
    if not found and takes_any_id and is_node_id(text.lower()):
        found = {text.lower()}
    if len(found) != 1:
        known = ", ".join(sorted(filter(None, names.values())))
        expected = f"a node that is known here ({known}){' or its id' if takes_any_id else ''}"
        what = f"{len(found)} of that name: take the id" if found else f"{text!r:.60}"
        raise PhextsyncError(f"expected {expected}, found {what}")
    (node_id,) = found
    return node_id
