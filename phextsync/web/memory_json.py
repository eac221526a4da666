"""Memory JSON: what Anthropic's memory stores API takes and answers. Pure functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from starlette.datastructures import QueryParams

from phextsync.agents.memory_stores import Memory, MemoryVersion, sha256_of
from phextsync.agents.store_records import StoreRecord, memory_id, store_id, version_id
from phextsync.agents.times import time_ms, time_text
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate
from phextsync.web.api import Json

PAGE_MAX: Final = 100
FULL_PAGE_MAX: Final = 20

_PAGE: Final = 20
T = TypeVar("T")


# -- what is taken -------------------------------------------------------------------------


class Given:
    """The fields of a request. PhextsyncError for what is missing or of another type."""

    def __init__(self, body: Json) -> None:
        if not isinstance(body, dict):
            raise PhextsyncError("expected a JSON object")
        self._fields = body

    def text(self, name: str) -> str:
        found = self.maybe_text(name)
        if found is None:
            raise PhextsyncError(f"expected {name} as text, found none")
        return found

    def maybe_text(self, name: str) -> str | None:
        """Return a text, None when it is left out or null."""
        found = self._fields.get(name)
        if not isinstance(found, str | None):
            raise PhextsyncError(f"expected {name} as text, found {found!r:.60}")
        return found

    def pairs(self, name: str) -> dict[str, str | None]:
        """Return an object of texts or nulls, empty when it is left out."""
        found = self._fields.get(name)
        pairs: dict[str, str | None] = {}
        for key, value in _object(name, found).items():
            if not isinstance(value, str | None):
                raise PhextsyncError(f"expected texts as {name}, found {value!r:.60}")
            pairs[key] = value
        return pairs

    def precondition(self) -> str | None:
        """Return the digest that the content has to have, None for any."""
        found = _object("precondition", self._fields.get("precondition"))
        if not found:
            return None
        digest = found.get("content_sha256")
        if found.get("type") != "content_sha256" or not isinstance(digest, str):
            raise PhextsyncError("expected a precondition of type content_sha256 with a digest")
        return digest


def _object(name: str, found: Json) -> dict[str, Json]:
    if not isinstance(found, dict | None):
        raise PhextsyncError(f"expected {name} as an object, found {found!r:.60}")
    return found or {}


def is_full(query: QueryParams, default: str = "basic") -> bool:
    """Whether contents are asked for."""
    return one_of(query, "view", ("basic", "full"), default) == "full"


def one_of(query: QueryParams, name: str, words: Sequence[str], default: str) -> str:
    """Return a word of the query, the default when it is left out or empty."""
    found = query.get(name) or default
    if found != default and found not in words:
        expected = f"{', '.join(words[:-1])} or {words[-1]}"
        raise PhextsyncError(f"expected {expected} as {name}, found {found:.60}")
    return found


def page_of(
    rows: Sequence[T],
    key: Callable[[T], tuple[int, str]],
    query: QueryParams,
    limit_max: int = PAGE_MAX,
) -> tuple[Sequence[T], str | None]:
    """Return the rows of the page that is asked for, and what asks for the next: the key of the
    last row, by which rows are sorted. It may be gone by then, as where a client deletes what it
    lists."""
    limit = min(limit_max, number(query, "limit", _PAGE, PAGE_MAX))
    if page := query.get("page"):
        last = _key_of(page)
        rows = [row for row in rows if key(row) > last]
    shown = rows[:limit]
    return shown, _page_after(key(shown[-1])) if len(rows) > limit else None


def _page_after(key: tuple[int, str]) -> str:
    number_, text = key
    return f"{number_}/{text}".encode().hex()


def _key_of(page: str) -> tuple[int, str]:
    try:
        number_, slash, text = bytes.fromhex(page).decode().partition("/")
        if slash:
            return int(number_), text
    except ValueError:
        pass
    raise PhextsyncError(f"expected the next_page of an answer as page, found {page:.60}")


def number(query: QueryParams, name: str, default: int, most: int, least: int = 1) -> int:
    """Return a number of the query."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and least <= int(text) <= most):
        raise PhextsyncError(f"expected {name} from {least} to {most}, found {text:.60}")
    return int(text)


def moment(query: QueryParams, name: str) -> int | None:
    """Return a time of the query in milliseconds, None when there is none."""
    text = query.get(name)
    if text is None:
        return None
    found = time_ms(text)
    if found is None:
        raise PhextsyncError(f"expected a time as {name}, found {text:.60}")
    return found


# -- what is answered ----------------------------------------------------------------------


def store_json(store: StoreRecord) -> Json:
    archived = store.archived_ms
    return {
        "id": store_id(store.parts),
        "type": "memory_store",
        "name": store.name,
        "description": store.description,
        "metadata": dict(store.metadata),
        "created_at": time_text(store.created_ms),
        "updated_at": time_text(store.updated_ms),
        "archived_at": None if archived is None else time_text(archived),
    }


def memory_json(memory: Memory, versions: Sequence[MemoryVersion], *, full: bool) -> Json:
    """Return a memory; `versions` are those that are kept, the newest first."""
    lineage = _since_created(versions)
    newest = lineage[0].time_ms if lineage else memory.store.created_ms
    oldest = lineage[-1].time_ms if lineage else memory.store.created_ms
    return {
        "id": memory_id(memory.place),
        "type": "memory",
        "memory_store_id": store_id(memory.store.parts),
        "memory_version_id": version_id(memory.place, newest),
        "path": memory.path,
        "content": memory.text if full else None,
        "content_sha256": sha256_of(memory.text),
        "content_size_bytes": len(memory.text.encode()),
        "created_at": time_text(oldest),
        "updated_at": time_text(newest),
    }


def version_json(
    store: StoreRecord,
    place: Coordinate,
    path: str,
    version: MemoryVersion,
    text: str,
    *,
    full: bool,
) -> Json:
    is_there = version.operation != "deleted"
    who = version.writers[0].hex() if version.writers else None
    return {
        "id": version_id(place, version.time_ms),
        "type": "memory_version",
        "memory_id": memory_id(place),
        "memory_store_id": store_id(store.parts),
        "operation": version.operation,
        "path": path,
        "content": text if full and is_there else None,
        "content_sha256": sha256_of(text) if is_there else None,
        "content_size_bytes": version.size if is_there else None,
        "created_at": time_text(version.time_ms),
        "created_by": who and {"type": "service_account_actor", "service_account_id": who},
        "redacted_at": None,
        "redacted_by": None,
    }


def error_json(kind: str, message: str) -> Mapping[str, Json]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def _since_created(versions: Sequence[MemoryVersion]) -> Sequence[MemoryVersion]:
    """Return the versions since a memory was made, or made again."""
    for i, version in enumerate(versions):
        if version.operation == "deleted":
            return versions[:i]
    return versions
