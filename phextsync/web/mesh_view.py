"""Mesh view: the machines and their links as they are, what is wrong and what to do, copies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from rich.filesize import decimal
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from phextsync.control.status import AbsentRow, PeerRow, PresenceRow, Status
from phextsync.web.drawing import picture
from phextsync.web.rendering import plural
from phextsync.web.shell import Shell

_ROWS: Final = 100
_NAME_CHARACTERS: Final = 18
_FEW: Final = 8  # names in the picture on a phone, and things to do that are not folded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A node in the picture: where, how it is, and what is said of it and of its link."""

    x: float
    y: float
    kind: str
    name: str
    told: str
    trip: str


class MeshView:
    """The view of the mesh of a node."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[Route]:
        """Return what leads here."""
        return [Route("/mesh", self._shell.guarded(self._show))]

    async def _show(self, request: Request) -> Response:
        status = _in_order(self._shell.node.status())
        asked = request.query_params.get("from", "0")
        start = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 0
        away, others = _apart(status)
        drawn, half_width, half_height, is_named = _draw(status, others, away)
        longest = max(len(status.peers), len(others), len(away))
        return self._shell.page(
            "mesh.html",
            "mesh",
            drawn=drawn,
            half_width=half_width,
            half_height=half_height,
            is_named=is_named,
            few=_FEW,
            peers=status.peers[start : start + _ROWS],
            others=others[start : start + _ROWS],
            away=away[start : start + _ROWS],
            counts=(len(status.peers), len(others), len(away)),
            start=start,
            after=start + _ROWS if start + _ROWS < longest else None,
            before=max(0, start - _ROWS) if start else None,
            actions=[*_actions(status, away)],
        )


def _in_order(status: Status) -> Status:
    """Return a status with the machines in the order of their names."""

    def key(row: PeerRow | PresenceRow | AbsentRow) -> tuple[str, str]:
        return row.name.casefold(), row.node_id or ""

    return replace(
        status,
        peers=tuple(sorted(status.peers, key=key)),
        presence=tuple(sorted(status.presence, key=key)),
        absent=tuple(sorted(status.absent, key=key)),
    )


def _apart(status: Status) -> tuple[list[AbsentRow], list[PresenceRow]]:
    """Return those that are not there, and those that are there without a link to this node. One
    whose link ended is not there, though others may not have noticed yet."""
    linked = {row.node_id for row in status.peers}
    linked |= {row.node_id for row in status.absent if row.node_id and row.is_wanted}
    others = [row for row in status.presence if row.node_id not in linked]
    seen = {row.node_id for row in others}
    return [row for row in status.absent if row.node_id not in seen], others


def _draw(
    status: Status, others: Sequence[PresenceRow], away: Sequence[AbsentRow]
) -> tuple[list[_Drawn], float, float, bool]:
    said = [*map(_linked, status.peers), *map(_other, others), *map(_away, away)]
    made = picture([len(status.peers), len(others), len(away)])
    pairs = zip(made.nodes, said, strict=True)
    drawn = [_Drawn(node.x, node.y, *each) for node, each in pairs]
    return drawn, made.half_width, made.half_height, made.is_named


def _linked(row: PeerRow) -> tuple[str, str, str, str]:
    lag = f", lacks {plural(row.lag_scrolls, 'scroll')}" if row.lag_scrolls else ""
    trip = "" if row.round_trip_ms is None else f"{row.round_trip_ms:.1f} ms"
    traffic = f"{decimal(row.bytes_in)} in, {decimal(row.bytes_out)} out"
    kind = "even" if row.state == "in sync" else "behind"
    return kind, _short(row.name), f"{row.name}: {row.state}{lag}; {traffic}", trip


def _other(row: PresenceRow) -> tuple[str, str, str, str]:
    return "other", _short(row.name), f"{row.name}: there, linked with others", ""


def _away(row: AbsentRow) -> tuple[str, str, str, str]:
    name = row.name or row.address or "?"
    return "away", _short(name), f"{name}: not connected: {row.reason}", ""


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "\u2026"


def _actions(status: Status, away: Sequence[AbsentRow]) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the mesh, and what to do."""
    if not status.peers and not away:
        yield (
            "No other machine is known.",
            "Join another one: `phextsync join` there, with the code of `phextsync code` here.",
        )
    for row in away:
        if row.is_wanted:
            name = row.name or row.address or "a machine"
            yield f"{name} is not connected: {row.reason}.", "See whether it runs and is reachable."
    for peer in status.peers:
        if peer.lag_scrolls and peer.lacks:
            yield (
                f"{peer.name} lacks {'; '.join(peer.lacks)}.",
                "It is on its way while it is linked.",
            )
    for placed in status.placed:
        if placed.short:
            ranges = plural(placed.ranges, "range")
            yield (
                f"{placed.phext}: too few copies of {placed.short} of {ranges}.",
                "They come back with their machines, or `phextsync place --retire NAME`.",
            )
