"""Compiled: coordinates, the index of coordinates, the bytes of updates and versions; and sockets
that threads share."""

try:
    from phextsync.index._bytes import (
        EMPTY_VERSION,
        after_news,
        appended,
        check_update,
        check_version,
        clean_update,
        clock_of,
        covers,
        cuts,
        encode_plain_insert,
        fits,
        insert_behind,
        inserted_text,
        low_halves,
        plain_text,
        root_clients,
        snapshot_version,
        state_vector,
        strip_deletes,
        update_clock,
        update_version,
        version_behind,
    )
    from phextsync.index._cbor import cbor_array, cbor_bytes, cbor_items, cbor_live, cbor_size
    from phextsync.index._coordinate import (
        EVERYTHING,
        ORIGIN,
        Coordinate,
        CoordinateRange,
        contains,
    )
    from phextsync.index._index import SKETCH_CELLS, CoordinateIndex, OpenText, OpenTexts
    from phextsync.index._numbered import NumberedSender, SharedReader
    from phextsync.index._sealed import sealed_text
except ModuleNotFoundError as error:
    raise ImportError(
        f"phextsync.index is not compiled ({error}): build it with `pip install .`"
    ) from error

__all__ = [
    "EMPTY_VERSION",
    "EVERYTHING",
    "ORIGIN",
    "SKETCH_CELLS",
    "Coordinate",
    "CoordinateIndex",
    "CoordinateRange",
    "NumberedSender",
    "OpenText",
    "OpenTexts",
    "SharedReader",
    "after_news",
    "appended",
    "cbor_array",
    "cbor_bytes",
    "cbor_items",
    "cbor_live",
    "cbor_size",
    "check_update",
    "check_version",
    "clean_update",
    "clock_of",
    "contains",
    "covers",
    "cuts",
    "encode_plain_insert",
    "fits",
    "insert_behind",
    "inserted_text",
    "low_halves",
    "plain_text",
    "root_clients",
    "sealed_text",
    "snapshot_version",
    "state_vector",
    "strip_deletes",
    "update_clock",
    "update_version",
    "version_behind",
]
