"""Calls of Anthropic's client to the memory stores of a node, and what it was answered.

`python -m tests.memory_calls` records them again in `tests/vectors/memory_store_calls.json`.
What differs from run to run has a name in its place: ids, pages, the node and times.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import trio
from starlette.routing import Router

from phextsync.testing import MemoryMesh
from phextsync.web.memory_door import MemoryDoor

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

RECORDED: Final = Path(__file__).parent / "vectors" / "memory_store_calls.json"

_BASE: Final = "http://localhost"
_PAUSE_S: Final = 0.01  # of virtual time: no two calls come in one millisecond
_HEADERS: Final = ("anthropic-beta", "anthropic-version", "content-type")
_ID: Final = re.compile(
    r"(memstore_|memver_|mem_)\d{9}[\d_]*|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_NAMED: Final = re.compile(r"\{\w+\}")


@dataclass
class Names:
    """The names of what differs from run to run, by what it is in this one."""

    names: dict[str, str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def named(self, value: Any) -> Any:
        """Return JSON with names for what is an id, a page or a time in it."""
        match value:
            case dict():
                pages = [text for key, text in value.items() if key == "next_page" and text]
                for page in pages:
                    self._name(page, "page")
                return {key: self.named(each) for key, each in value.items()}
            case list():
                return [self.named(each) for each in value]
            case str():
                if value in self.names:
                    return self.names[value]
                value = _TIME.sub("{time}", value)
                return _ID.sub(lambda found: self._name(found[0], found[1] or "node"), value)
        return value

    def _name(self, text: str, kind: str) -> str:
        if text not in self.names:
            kind = kind.rstrip("_")
            self._counts[kind] += 1
            self.names[text] = f"{{{kind}{self._counts[kind]}}}"
        return self.names[text]

    def path_named(self, path: str) -> str:
        """Return the path of a request with names in it."""
        for text in sorted(self.names, key=len, reverse=True):
            path = path.replace(text, self.names[text])
        return path

    def path(self, named: str) -> str:
        """Return the path of a request with what the names in it stand for."""
        known = {name: text for text, name in self.names.items()}
        return _NAMED.sub(lambda found: known[found[0]], named)


def at_a_door(body: Callable[[httpx2.AsyncBaseTransport], Awaitable[None]]) -> None:
    """Call `body` with what leads to the memory stores of a node, in virtual time."""
    mesh = MemoryMesh(1, 1)

    async def run() -> None:
        await mesh.run_until(1)
        door = Router(routes=MemoryDoor(mesh.node(0)).routes())
        await body(httpx2.ASGITransport(app=door))

    mesh.run(run)


async def use(client: "AsyncAnthropic") -> None:
    """Make calls of each kind that the client has for memory stores."""
    import anthropic

    stores, memories = client.beta.memory_stores, client.beta.memory_stores.memories
    versions = client.beta.memory_stores.memory_versions
    made = await stores.create(name="Anna's", description="tea", metadata={"a": "1", "b": "2"})
    store, other = made.id, (await stores.create(name="other")).id
    await stores.update(store, name="Bea's", metadata={"a": None, "c": "3"})
    await stores.retrieve(store)
    await _all(stores.list(limit=1))
    tea = await memories.create(store, path="/d/tea.md", content="Anna likes tea.\n")
    await memories.create(store, path="/list.md", content="milk\neggs\n", view="full")
    with suppress(anthropic.ConflictError):
        await memories.create(store, path="/d", content="taken\n")
    await _all(memories.list(store, limit=1))
    await _all(memories.list(store, path_prefix="/d/", view="full"))
    await _all(memories.list(store, depth=1))
    seen = sha256(b"Anna likes tea.\n").hexdigest()
    update = partial(memories.update, tea.id, memory_store_id=store)
    for content in ("Anna likes green tea.\n", "Anna likes black tea.\n"):
        with suppress(anthropic.ConflictError):
            await update(
                content=content, precondition={"type": "content_sha256", "content_sha256": seen}
            )
    await update(path="/tea.md", view="full")
    await memories.retrieve(tea.id, memory_store_id=store)
    with suppress(anthropic.ConflictError):
        await memories.delete(tea.id, memory_store_id=store, expected_content_sha256=seen)
    await memories.delete(tea.id, memory_store_id=store)
    with suppress(anthropic.NotFoundError):
        await memories.retrieve(tea.id, memory_store_id=store)
    found = await _all(versions.list(store, memory_id=tea.id, view="full", limit=2))
    await _all(versions.list(store, operation="deleted"))
    await versions.retrieve(found[-1].id, memory_store_id=store)
    with suppress(anthropic.InternalServerError):
        await versions.redact(found[-1].id, memory_store_id=store)
    await stores.archive(store)
    with suppress(anthropic.BadRequestError):
        await memories.create(store, path="/late.md", content="late\n")
    await _all(stores.list(include_archived=True))
    await stores.delete(other)
    with suppress(anthropic.NotFoundError):
        await stores.retrieve(other)


async def _all(pages: AsyncIterable[Any]) -> list[Any]:
    return [each async for each in pages]


def record() -> list[dict[str, Any]]:
    """Return what the client that is installed asks, and what it is answered."""
    from anthropic import AsyncAnthropic

    names, calls = Names(), list[dict[str, Any]]()

    async def note(response: httpx2.Response) -> None:
        await response.aread()
        request = response.request
        calls.append(
            {
                "method": request.method,
                "path": names.path_named(request.url.raw_path.decode()),
                "headers": {k: request.headers[k] for k in _HEADERS if k in request.headers},
                "body": names.named(json.loads(await request.aread() or b"null")),
                "status": response.status_code,
                "answer": names.named(response.json()),
            }
        )
        await trio.sleep(_PAUSE_S)

    async def ask(transport: httpx2.AsyncBaseTransport) -> None:
        http = httpx2.AsyncClient(transport=transport, event_hooks={"response": [note]})
        async with AsyncAnthropic(base_url=_BASE, api_key="key", http_client=http) as client:
            await use(client)

    at_a_door(ask)
    return calls


def replay(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask what was recorded; return the same with what is answered now."""
    names, answered = Names(), list[dict[str, Any]]()

    async def ask(transport: httpx2.AsyncBaseTransport) -> None:
        async with httpx2.AsyncClient(transport=transport, base_url=_BASE) as http:
            for call in calls:
                body = b"" if call["body"] is None else json.dumps(call["body"]).encode()
                response = await http.request(
                    call["method"], names.path(call["path"]), headers=call["headers"], content=body
                )
                answer = names.named(response.json())
                answered.append({**call, "status": response.status_code, "answer": answer})
                await trio.sleep(_PAUSE_S)

    at_a_door(ask)
    return answered


def recorded() -> Mapping[str, Any]:
    """Return what was recorded: the version of the `client`, and its `calls`."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text())
    return found


def main() -> None:
    """Record."""
    import anthropic

    document = {"client": f"anthropic {anthropic.__version__}", "calls": record()}
    RECORDED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
