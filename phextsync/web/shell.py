"""Shell: what all pages of a node have in common, and how they are answered."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from phextsync.control.frames import Value
from phextsync.control.status import Status
from phextsync.errors import NotHeldError, PermissionDeniedError, PhextsyncError
from phextsync.files.desk import NAMES
from phextsync.index import Coordinate
from phextsync.node.node import DEFAULT_PHEXT, Node
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import writing_as
from phextsync.replica.replica import Replica
from phextsync.web.rendering import plural, render

WRITER: Final = "web"
"""How what is written by the page is labelled."""

_VIEWS: Final = (
    ("scrolls", "/", "Scrolls"),
    ("mesh", "/mesh", "Mesh"),
    ("directories", "/directories", "Directories"),
    ("figures", "/figures", "Figures"),
)
_PROBLEMS_MAX: Final = 50

View: TypeAlias = Callable[[Request], Awaitable[Response]]


class NotFoundError(PhextsyncError):
    """There is nothing under an address."""


class Shell:
    """Makes the pages of one node. `now_ms` is the time of day."""

    def __init__(self, node: Node, now_ms: Callable[[], int], *, has_login: bool) -> None:
        self.node = node
        self.now_ms = now_ms
        self._has_login = has_login

    def page(self, template: str, view: str, status: int = 200, **values: object) -> Response:
        """Return a page of a view."""
        now = self.node.status()
        common = {
            "node": now,
            "view": view,
            "views": _VIEWS,
            "has_login": self._has_login,
            "problems": problems_of(now)[:_PROBLEMS_MAX],
            "now_ms": self.now_ms(),
        }
        return HTMLResponse(render(template, {**common, **values}), status)

    def guarded(self, view: View) -> View:
        """Return a view that tells what cannot be done in a page."""

        async def answer(request: Request) -> Response:
            try:
                return await view(request)
            except NotFoundError as error:
                return self._problem(404, "Not found", error)
            except PermissionDeniedError as error:
                return self._problem(403, "Not permitted", error)
            except NotHeldError as error:
                return self._problem(421, "Not held here", error)
            except PhextsyncError as error:
                return self._problem(400, "That cannot be done", error)

        return answer

    def _problem(self, status: int, title: str, error: PhextsyncError) -> Response:
        return self.page("problem.html", "", status, title=title, told=str(error), back="/")

    # -- what the pages ask of the node ----------------------------------------------------

    def ask(self, *request: Value) -> Value:
        """Carry out an operation for a person at the page."""
        with writing_as(WRITER):
            return self.node.desk.ask([*request])

    def phexts(self) -> list[str]:
        """Return the names of all phexts of users, or the one that is made first."""
        return [name for name in self.node.phexts() if not is_reserved(name)] or [DEFAULT_PHEXT]

    def replica(self, phext: str) -> Replica:
        """Return a phext. NotFoundError when there is none of that name here."""
        found = None if is_reserved(phext) else self.node.replicas.known(phext)
        if found is None:
            raise NotFoundError(f"There is no phext {phext!r:.80} here.")
        return found

    def who(self, node_id: bytes) -> str:
        """Return the name of a node, the beginning of its id where that is not known."""
        if node_id == self.node.identity.node_id:
            return self.node.identity.name
        return self.node.acquaintances.remembered.name(node_id) or node_id.hex()[:8]

    def files(self, phext: str, places: Iterable[Coordinate]) -> list[Path | None]:
        """Return the file that each scroll is, None for those that are none."""
        return NAMES.answer.decode(self.ask("names", phext, [str(place) for place in places]))


def problems_of(status: Status) -> list[str]:
    """Say what is wrong with a node, and what to do."""
    return list(_problems(status))


def _problems(status: Status) -> Iterator[str]:
    if not status.store.is_writable:
        yield "The disk refuses writes: make room on it. Nothing is lost meanwhile."
    yield from status.warnings
    for row in status.directories:
        if row.problem:
            yield f"{row.directory}: {row.problem}"
        if row.held:
            yield (
                f"{row.directory}: {plural(row.held, 'file')} {'is' if row.held == 1 else 'are'}"
                " missing here; deleting so many on all machines waits to be confirmed:"
                " see Directories, or `phextsync bind --confirm`"
            )
