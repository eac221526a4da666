"""Library: the view of what there is. Phexts, their scrolls by the nine dimensions, a search, what
changed last."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from phextsync.agents.part_names import NAMES, PartNames, read_names
from phextsync.errors import PhextsyncError
from phextsync.index import EVERYTHING, ORIGIN, Coordinate
from phextsync.prefixes import Prefix, prefix_of, prefix_text
from phextsync.search import Hit
from phextsync.texts import DIMENSIONS, first_line
from phextsync.web.recent import Recent, RecentChange
from phextsync.web.rendering import part
from phextsync.web.shell import NotFoundError, Shell
from phextsync.web.walking import Leaf, walk

_VIEW: Final = "scrolls"
_RECENT: Final = 20
_HITS: Final = 30
_SEARCHED_MAX: Final = 32  # phexts that one search goes through
_LINE_CHARACTERS: Final = 120
_BRACKETED: Final = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class _Shown:
    """A scroll in a list."""

    coordinate: Coordinate
    size: int
    first: str
    file: Path | None


@dataclass(frozen=True, slots=True)
class _ShownHit:
    """What was found: its text in pieces, and whether each is one of the words."""

    phext: str
    coordinate: Coordinate
    pieces: list[tuple[str, bool]]
    file: Path | None


@dataclass(frozen=True, slots=True)
class _ShownChange:
    """A change that a person sees."""

    phext: str
    coordinate: Coordinate
    time_ms: int
    who: str
    first: str
    gone: bool
    file: Path | None


class Library:
    """The view of the scrolls of a node."""

    def __init__(self, shell: Shell, recent: Recent) -> None:
        self._shell = shell
        self._recent = recent

    def routes(self) -> list[Route]:
        """Return what leads here."""
        guarded = self._shell.guarded
        return [
            Route("/", guarded(self._home)),
            Route("/scrolls/{phext}", guarded(self._walk)),
            Route("/search", guarded(self._search)),
            Route("/go", guarded(self._go)),
        ]

    async def _home(self, request: Request) -> Response:
        status = self._shell.node.status()
        return self._shell.page(
            "home.html",
            _VIEW,
            phexts=status.phexts,
            directories=status.directories,
            recent=list(self._changes(None)),
        )

    async def _walk(self, request: Request) -> Response:
        phext, asked = request.path_params["phext"], request.query_params
        replica = self._shell.replica(phext)
        after, flat = asked.get("after", ""), asked.get("list") == "1"
        prefix = prefix_of(asked.get("in", ""))
        found = walk(replica, prefix, after, flat=flat)
        names = self._names(phext)
        here = f"/scrolls/{part(phext)}?"
        same = {"in": prefix_text(prefix), **({"list": "1"} if flat else {})}
        other = {"in": prefix_text(prefix), **({} if flat else {"list": "1"})}
        more = {**same, "after": found.after or ""}
        return self._shell.page(
            "walk.html",
            _VIEW,
            phext=phext,
            here=prefix_text(found.prefix),
            crumbs=[*_crumbs(found.prefix, names)],
            dimension=names.dimension(min(len(found.prefix), len(DIMENSIONS) - 1)),
            branches=[
                {
                    "text": prefix_text(row.prefix),
                    "name": names.parts.get(row.prefix, ""),
                    "scrolls": row.scrolls,
                    "size": row.size,
                    "first": row.first,
                }
                for row in found.branches
            ],
            leaves=self._shown(phext, found.leaves),
            notes=self._notes(phext),
            flat=flat,
            after=after,
            is_later=bool(after),
            first_page=here + urlencode(same),
            next_page=here + urlencode(more) if found.after else "",
            other_way=here + urlencode(other),
            recent=list(self._changes(phext)),
        )

    async def _search(self, request: Request) -> Response:
        asked = request.query_params
        known = self._shell.phexts()
        phext, words = asked.get("phext", ""), asked.get("words", "").strip()
        if phext and phext not in known:
            raise NotFoundError(f"There is no phext {phext!r:.80} here.")
        hits: list[_ShownHit] = []
        problem = ""
        if words:
            looked_for = f"{words}*" if asked.get("typed") and words[-1].isalnum() else words
            try:
                hits, missing = await self._find(looked_for, [phext] if phext else known)
                problem = "; ".join(missing)
            except PhextsyncError as error:
                problem = str(error)
        return self._shell.page(
            "search.html",
            _VIEW,
            phext=phext,
            words=words,
            known=known,
            hits=hits,
            is_cut=len(hits) == _HITS,
            problem=problem,
        )

    async def _find(self, words: str, phexts: list[str]) -> tuple[list[_ShownHit], list[str]]:
        """Return the best hits, those of each phext together, and which parts were not asked."""
        found: list[_ShownHit] = []
        missing: list[str] = []
        for phext in phexts[:_SEARCHED_MAX]:
            left = _HITS - len(found)
            if left:
                hits = await self._shell.node.search(words, phext, limit=left, missing=missing)
                found += self._hits(phext, hits)
        return found, missing

    async def _go(self, request: Request) -> Response:
        asked = request.query_params
        at = Coordinate.parse(asked.get("at", "").strip())
        return RedirectResponse(f"/scroll/{part(asked.get('phext', ''))}/{at}", 303)

    # -- rows ------------------------------------------------------------------------------

    def _names(self, phext: str) -> PartNames:
        """Return what people call the parts of coordinates."""
        if NAMES not in self._shell.phexts():
            return PartNames()
        return read_names(self._shell.replica(NAMES).read(ORIGIN), phext)

    def _notes(self, phext: str) -> Iterator[str]:
        """Say what of a phext is not here."""
        for row in self._shell.node.status().holding:
            if row.phext == phext:
                held = ", ".join(row.held) or "nothing"
                yield f"This machine holds {held} of {phext}; other machines hold the rest."
        permissions = self._shell.node.replicas.permissions
        ranges = permissions.readable(phext)
        if not permissions.reads_everything and ranges != (EVERYTHING,):
            read = ", ".join(map(str, ranges)) or "nothing"
            yield f"This machine may read {read} of {phext}; the rest is private to others."

    def _shown(self, phext: str, leaves: tuple[Leaf, ...]) -> list[_Shown]:
        files = self._shell.files(phext, [leaf.coordinate for leaf in leaves])
        pairs = zip(leaves, files, strict=True)
        return [_Shown(leaf.coordinate, leaf.size, leaf.first, file) for leaf, file in pairs]

    def _hits(self, phext: str, hits: list[Hit]) -> list[_ShownHit]:
        files = self._shell.files(phext, [hit.coordinate for hit in hits])
        return [
            _ShownHit(phext, hit.coordinate, _pieces(hit.snippet), file)
            for hit, file in zip(hits, files, strict=True)
        ]

    def _changes(self, phext: str | None) -> Iterator[_ShownChange]:
        for change in self._recent.newest(_RECENT, phext):
            text = ""
            with suppress(PhextsyncError):  # it may have left this node
                text = self._shell.replica(change.phext).read(change.coordinate)
            (file,) = self._shell.files(change.phext, [change.coordinate])
            yield _ShownChange(
                change.phext,
                change.coordinate,
                change.time_ms,
                self._who(change),
                first_line(text, _LINE_CHARACTERS),
                not text,
                file,
            )

    def _who(self, change: RecentChange) -> str:
        name = self._shell.who(change.node_id) if change.node_id else "?"
        return f"{name} ({change.label})" if change.label else name


def _crumbs(prefix: Prefix, names: PartNames) -> Iterator[dict[str, object]]:
    for level, number in enumerate(prefix):
        to = prefix[: level + 1]
        shown = f"{number} {names.parts.get(to, '')}".strip()
        yield {"prefix": prefix_text(to), "number": shown, "dimension": names.dimension(level)}


def _pieces(snippet: str) -> list[tuple[str, bool]]:
    """Return what a hit shows in pieces, and whether each is one of the words: these stand in
    brackets."""
    parts = _BRACKETED.split(snippet)
    return [(piece, number % 2 == 1) for number, piece in enumerate(parts) if piece]
