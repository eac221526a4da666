"""One scroll: the view of a scroll. Its text to edit, who wrote what, its past, its conflicts."""

from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from phextsync.control import operations
from phextsync.control.answers import Form
from phextsync.control.bringing import Needed, bring
from phextsync.control.frames import Value
from phextsync.control.operations import digest
from phextsync.errors import PermissionDeniedError, PhextsyncError, ProtocolError
from phextsync.files.desk import CONFLICTS, ToldConflict
from phextsync.index import EMPTY_VERSION, ORIGIN, Coordinate, CoordinateRange, contains
from phextsync.phext_names import is_phext_name, is_reserved
from phextsync.prefixes import prefix_text
from phextsync.replica.past import NOT_KEPT, BlamedLine, Version, to_restore
from phextsync.replica.replica import Replica
from phextsync.web.forms import form_of, with_ends_of
from phextsync.web.rendering import part
from phextsync.web.shell import NotFoundError, Shell

_VIEW: Final = "scrolls"
_VERSIONS: Final = 200
_LINES: Final = 4000  # of a page that says who wrote them: 20 ms

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Place:
    """A scroll as a page names it."""

    phext: str
    coordinate: Coordinate
    replica: Replica | None
    """None where nothing of the phext is here yet."""

    @property
    def path(self) -> str:
        """The path of its page."""
        return f"/scroll/{part(self.phext)}/{self.coordinate}"

    @property
    def text(self) -> str:
        """Its text as it is here."""
        return "" if self.replica is None else self.replica.get(self.coordinate, "")


class OneScroll:
    """The view of one scroll of a node."""

    def __init__(self, shell: Shell, form_bytes_max: int) -> None:
        self._shell = shell
        self._form_bytes_max = form_bytes_max

    def routes(self) -> list[Route]:
        """Return what leads here."""
        at, guarded = "/scroll/{phext}/{coordinate:path}", self._shell.guarded
        return [
            Route(at, guarded(self._show), methods=["GET"]),
            Route(at, guarded(self._save), methods=["POST"]),
            Route("/restore/{phext}/{coordinate:path}", guarded(self._restore), methods=["POST"]),
            Route("/settle/{number}", guarded(self._settle), methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        place = await self._place(request)
        match request.query_params.get("view", ""):
            case "history":
                return await self._show_history(place, request.query_params.get("at", ""))
            case "blame":
                return await self._show_blame(place, request.query_params.get("from", ""))
            case _:
                return self._show_text(place)

    # -- what is shown ---------------------------------------------------------------------

    def _show_text(self, place: _Place, *, problem: str = "", text: str | None = None) -> Response:
        now, trouble = place.text, self._trouble(place)
        return self._page(
            "scroll.html",
            place,
            409 if problem else 200,
            text=now if text is None else text,
            seen=digest(now).hex(),
            trouble=trouble,
            problem=problem,
            conflicts=self._conflicts(place),
            writer=self._shell.node.identity.name,
        )

    async def _show_blame(self, place: _Place, asked: str) -> Response:
        lines: list[BlamedLine] = await self._look_back(operations.BLAME.answer, "blame", place)
        first = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0
        rest = first + _LINES
        return self._page(
            "blame.html",
            place,
            lines=lines[first:rest],
            next_page=f"{place.path}?view=blame&from={rest}" if rest < len(lines) else "",
            who=self._shell.who,
        )

    async def _show_history(self, place: _Place, at: str) -> Response:
        form = operations.VERSIONS.answer
        found: list[Version] = await self._look_back(form, "versions", place, _VERSIONS)
        chosen = int(at) if at.isascii() and at.isdigit() and len(at) < 16 else None
        text = None
        if chosen is not None:
            text = await self._look_back(operations.SHOW.answer, "show", place, chosen)
        return self._page(
            "history.html",
            place,
            versions=found,
            chosen=chosen,
            text=text,
            is_now=text == place.text,
            who=self._shell.who,
            not_kept=NOT_KEPT,
            may_write=not self._trouble(place),
        )

    def _page(self, template: str, place: _Place, status: int = 200, **more: object) -> Response:
        (file,) = self._shell.files(place.phext, [place.coordinate])
        parts = place.coordinate.parts
        return self._shell.page(
            template,
            _VIEW,
            status,
            phext=place.phext,
            coordinate=str(place.coordinate),
            path=place.path,
            section=prefix_text(parts[:8]),
            file=file,
            disks=self._disks(place),
            neighbours=_neighbours(place),
            **more,
        )

    def _disks(self, place: _Place) -> dict[str, object]:
        """Say on the disks of how many machines the scroll is, and of which it is not known."""
        node, range_ = self._shell.node, CoordinateRange.of(place.coordinate)
        complete, lacks = node.core.lacking(place.phext, range_)
        away = [row for row in node.absent() if row.node_id is not None and row.is_wanted]
        reasons = [str(lack) for lack in lacks]
        reasons += [f"{row.name or 'a machine'} is not connected: {row.reason}" for row in away]
        is_held = node.replicas.holding.is_held(place.phext, place.coordinate)
        is_here = is_held and place.replica is not None
        if place.replica is not None and place.coordinate in place.replica.uncommitted():
            is_here = False
            reasons.insert(0, "it is being written here")
        count = len(complete) + len(lacks) + len(away) + is_held
        is_new = is_held and (
            place.replica is None or place.replica.version(place.coordinate) == EMPTY_VERSION
        )
        have = len(complete) + is_here
        return {"have": have, "of": count, "reasons": reasons, "is_new": is_new}

    def _trouble(self, place: _Place) -> str:
        """Say why nobody can write the scroll here; nothing where one can."""
        permissions = self._shell.node.replicas.permissions
        if not contains(permissions.readable(place.phext), place.coordinate):
            return "This machine may not read here: the scroll, if there is one, is private."
        if not contains(permissions.writable(place.phext), place.coordinate):
            return "This machine may read this scroll, and not write it."
        try:
            if place.replica is not None:
                place.replica.check_allowed(place.coordinate)
        except PermissionDeniedError as error:
            return str(error)
        return ""

    def _conflicts(self, place: _Place) -> list[ToldConflict]:
        return CONFLICTS.answer.decode(
            self._shell.ask("conflicts", place.phext, str(place.coordinate))
        )

    # -- what is changed -------------------------------------------------------------------

    async def _save(self, request: Request) -> Response:
        place, given = await self._place(request), await form_of(request, self._form_bytes_max)
        text = given.get("text", "")
        seen = _bytes(given.get("seen", ""))
        if digest(place.text) != seen:
            told = "It has changed meanwhile. What you wrote is below: look at what is there now."
            return self._show_text(place, problem=told, text=text)
        text = with_ends_of(place.text, text)
        self._shell.ask("set", place.phext, str(place.coordinate), text, seen)
        await self._shell.node.durable()
        return RedirectResponse(place.path, 303)

    async def _restore(self, request: Request) -> Response:
        place, given = await self._place(request), await form_of(request, self._form_bytes_max)
        at = given.get("at", "")
        if not (at.isascii() and at.isdigit() and len(at) < 16):
            raise PhextsyncError(f"expected a time in milliseconds, found {at!r:.40}")
        text = await self._look_back(operations.SHOW.answer, "show", place, int(at))
        text = to_restore(place.phext, place.coordinate, text)
        self._shell.ask("import", place.phext, False, [[str(place.coordinate), text]])
        await self._shell.node.durable()
        return RedirectResponse(place.path, 303)

    async def _settle(self, request: Request) -> Response:
        given = await form_of(request, self._form_bytes_max)
        number, side = request.path_params["number"], given.get("side", "")
        settled = self._shell.ask("settle_conflict", number, side, "")
        await self._shell.node.durable()
        match settled:
            case [str(phext), str(coordinate)]:
                return RedirectResponse(f"/scroll/{part(phext)}/{coordinate}", 303)
            case _:
                raise ProtocolError(f"expected a scroll, found {settled!r:.60}")

    # -- helpers ---------------------------------------------------------------------------

    async def _place(self, request: Request) -> _Place:
        """Return what a page is about, brought here where others hold it. NotHeldError where none
        of them can be asked."""
        phext, coordinate = request.path_params["phext"], request.path_params["coordinate"]
        if is_reserved(phext) or not is_phext_name(phext):
            raise NotFoundError(f"{phext!r:.80} is no phext that one can see here.")
        at, node = Coordinate.parse(coordinate), self._shell.node
        if contains(node.replicas.permissions.readable(phext), at):
            error = await bring(node.desk, [Needed(phext, at, is_blind=False)])
            if error is not None:
                raise error
        return _Place(phext, at, node.replicas.known(phext))

    async def _look_back(self, form: Form[T], name: str, place: _Place, *more: Value) -> T:
        """Ask for something of the past of a scroll."""
        asked: list[Value] = [name, place.phext, str(place.coordinate), *more]
        return form.decode(await self._shell.node.desk.wait(asked))


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PhextsyncError(f"expected hexadecimal digits, found {text!r:.40}") from error


def _neighbours(place: _Place) -> dict[str, str]:
    """Return the paths of the scrolls before and after one, the empty text where there is none."""
    if place.replica is None:
        return {"before": "", "after": ""}
    index, at = place.replica.index, place.coordinate
    before = after = None
    if at > ORIGIN:
        below = CoordinateRange(None, at)
        before = next(index.coordinates(below, filled=True, reverse=True), None)
    if (above := at.successor()) is not None:
        after = next(index.coordinates(CoordinateRange(above), filled=True), None)
    paths = [f"/scroll/{part(place.phext)}/{each}" if each else "" for each in (before, after)]
    return {"before": paths[0], "after": paths[1]}
