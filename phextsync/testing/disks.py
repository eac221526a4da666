"""Disks: what is on the simulated disk of a node, read past the library's own bookkeeping."""

from hashlib import blake2b

from pycrdt import Doc, Text

from phextsync.crdt import ROOT
from phextsync.errors import StoreDamagedError
from phextsync.index import Coordinate, plain_text, update_version
from phextsync.store.contract import StoredScroll
from phextsync.store.memory import MemoryStore


def texts_on(store: MemoryStore, phext: str) -> dict[Coordinate, str]:
    """Return what a start would find now, without what is damaged."""
    found = store.read_range(phext, b"", None, 1 << 60)
    return {Coordinate.from_key(key): _text(stored) for key, stored in found}


def text_on(store: MemoryStore, phext: str, place: Coordinate) -> str:
    """Return what a start would find of one scroll, "" for nothing and for what is damaged."""
    try:
        stored = store.read(phext, place.key)
    except StoreDamagedError:
        return ""
    return "" if stored is None else _text(stored)


def fingerprint_on(store: MemoryStore, phext: str, key: bytes) -> bytes:
    """Return the fingerprint of what is stored of one scroll, as the specification defines it
    (docs/reference/protocol.md), empty when it cannot be read."""
    try:
        stored = store.read(phext, key)
    except StoreDamagedError:
        return b""
    if stored is None:
        return b""
    doc = _document(stored)
    version = update_version(doc.get_update())
    hasher = blake2b(
        key + len(version).to_bytes(4, "big") + version + str(doc.get(ROOT, type=Text)).encode(),
        key=blake2b(phext.encode(), digest_size=32).digest(),
        digest_size=32,
        person=b"phextsync1",
    )
    return hasher.digest()


def _text(stored: StoredScroll) -> str:
    plain = plain_text(stored.updates[0]) if len(stored.updates) == 1 else None
    return str(_document(stored).get(ROOT, type=Text)) if plain is None else plain.decode()


def _document(stored: StoredScroll) -> "Doc[Text]":
    doc: Doc[Text] = Doc()
    for update in stored.updates:
        doc.apply_update(update)
    return doc
