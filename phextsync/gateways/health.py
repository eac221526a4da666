"""Health: whether a node can do its work, for those who restart it or call somebody."""

from phextsync.node.node import Node


def health_of(node: Node) -> tuple[int, dict[str, str | int]]:
    """Return the status of an answer over HTTP, and its body as JSON has it."""
    is_writable = node.replicas.is_writable
    row: dict[str, str | int] = {
        "status": "ok" if is_writable else "the disk refuses writes",
        "node": node.identity.name,
        "peers": len(node.peers()),
    }
    return 200 if is_writable else 503, row
