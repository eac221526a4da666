"""Data folders that earlier versions of this library wrote, kept as test vectors."""

import gzip
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).with_name("vectors")


def unpack(version: int, folder: Path) -> None:
    """Put the store of a format into an empty folder, as a node of that time left it."""
    (folder / "store").mkdir(mode=0o700)
    data = gzip.decompress((VECTORS / f"store-{version}.mdb.gz").read_bytes())
    (folder / "store" / "data.mdb").write_bytes(data)


def expected() -> dict[str, Any]:
    """Return texts, fingerprints and quarantined coordinates of those stores: all hold the same."""
    return dict(json.loads((VECTORS / "store.json").read_text()))
