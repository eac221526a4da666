"""Node: links, the writer, the clock and discovery of one running node.

* `invitations`: how a new machine gets its certificate from the administrator's node
* `status`: what a node tells of its peers
* `node`: `open_node`, where all of it meets
"""

from phextsync.node.node import DEFAULT_PHEXT, DEFAULT_PORT, Node, open_node

__all__ = ["DEFAULT_PHEXT", "DEFAULT_PORT", "Node", "open_node"]
