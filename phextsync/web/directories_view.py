"""Directories view: bound directories, how it stands with them, their files, what was deleted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from phextsync.control import operations
from phextsync.control.answers import DeletedScrolls
from phextsync.control.frames import Value
from phextsync.control.status import DirectoryRow
from phextsync.errors import PhextsyncError
from phextsync.files.bindings import BindingStore
from phextsync.index import Coordinate
from phextsync.replica.past import DeletedScroll
from phextsync.web.folders import FILES_MAX, Folders
from phextsync.web.forms import form_of
from phextsync.web.rendering import part
from phextsync.web.shell import NotFoundError, Shell

_VIEW: Final = "directories"
_FORM_BYTES_MAX: Final = 64 << 10
_FOLDERS_MAX: Final = 8
_ROWS: Final = 200
_DELETED: Final = 50
_LOOKS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class _Gone:
    """A scroll that can be brought back."""

    row: DeletedScroll
    who: str
    file: Path | None


class DirectoriesView:
    """The view of the bound directories of a node."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._folders: dict[tuple[str, str, str], Folders] = {}  # the one of the last page is last

    def routes(self) -> list[Route]:
        """Return what leads here."""
        guarded = self._shell.guarded
        return [
            Route("/directories", guarded(self._show)),
            Route("/files", guarded(self._list)),
            Route("/deleted", guarded(self._show_deleted)),
            Route("/undelete", guarded(self._undelete), methods=["POST"]),
            Route("/confirm", guarded(self._confirm), methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        status = self._shell.node.status()
        return self._shell.page(
            "directories.html", _VIEW, rows=status.directories, phexts=self._shell.phexts()
        )

    def _row(self, directory: str) -> DirectoryRow:
        for row in self._shell.node.status().directories:
            if row.directory == directory:
                return row
        raise NotFoundError(f"{directory:.200} is not bound here.")

    # -- files -----------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        row, under = self._row(asked.get("directory", "")), asked.get("under", "").strip("/")
        start = asked.get("from", "")
        folders = self._folders_of(row)
        await folders.update()
        entries = folders.page(under, start, _ROWS + 1)
        more = entries.pop().start if len(entries) > _ROWS else ""
        return self._shell.page(
            "files.html",
            _VIEW,
            row=row,
            under=under,
            above=under.rpartition("/")[0],
            entries=entries,
            is_whole=folders.is_whole,
            files_max=FILES_MAX,
            next_page=_query("/files", row.directory, under, more) if more else "",
        )

    def _folders_of(self, row: DirectoryRow) -> Folders:
        """Return the files of a directory; of those that were looked at last, few are kept."""
        where = row.directory, row.phext, row.range
        folders = self._folders.pop(where, None) or Folders(self._shell, row)
        self._folders[where] = folders
        if len(self._folders) > _FOLDERS_MAX:
            self._folders.pop(next(iter(self._folders))).close()
        return folders

    # -- what was deleted ------------------------------------------------------------------

    async def _show_deleted(self, request: Request) -> Response:
        asked = request.query_params
        phext, range_ = asked.get("phext", ""), asked.get("range", "*")
        replica = self._shell.replica(phext)
        found: list[DeletedScroll] = []
        rest: str | None = range_
        for _ in range(_LOOKS_MAX):
            if rest is None or len(found) >= _DELETED:
                break
            page: DeletedScrolls = operations.UNDELETABLE.answer.decode(
                await self._shell.node.desk.wait(["undeletable", replica.name, rest])
            )
            found, rest = found + page.found, page.rest
        files = self._shell.files(phext, [row.coordinate for row in found])
        return self._shell.page(
            "deleted.html",
            _VIEW,
            phext=phext,
            rows=[
                _Gone(row, self._shell.who(row.writer) if row.writer else "?", file)
                for row, file in zip(found, files, strict=True)
            ],
            next_page=f"/deleted?{urlencode({'phext': phext, 'range': rest})}" if rest else "",
        )

    async def _undelete(self, request: Request) -> Response:
        given = await form_of(request, _FORM_BYTES_MAX)
        phext, place = given.get("phext", ""), str(Coordinate.parse(given.get("at", "")))
        asked: list[Value] = ["deleted", self._shell.replica(phext).name, place]
        text = operations.DELETED.answer.decode(await self._shell.node.desk.wait(asked))
        if self._shell.ask("size", phext, place):
            raise PhextsyncError(f"{phext} {place} has a text again: look at its history.")
        self._shell.ask("import", phext, False, [[place, text]])
        await self._shell.node.durable()
        return RedirectResponse(f"/scroll/{part(phext)}/{place}", 303)

    # -- deletions that wait ---------------------------------------------------------------

    async def _confirm(self, request: Request) -> Response:
        given = await form_of(request, _FORM_BYTES_MAX)
        row = self._row(given.get("directory", ""))
        if not row.held:
            raise PhextsyncError(f"{row.directory}: no deletion waits there any more.")
        store = BindingStore(self._shell.node.folder)
        await trio.to_thread.run_sync(store.confirm, Path(row.directory))
        return RedirectResponse("/directories", 303)


def _query(path: str, directory: str, under: str, start: str) -> str:
    return f"{path}?{urlencode({'directory': directory, 'under': under, 'from': start})}"
