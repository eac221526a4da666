"""Figures view: how much a node does, over time."""

from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from phextsync.errors import PhextsyncError
from phextsync.gateways.measured import kept
from phextsync.web.samples import INTERVAL_S, Samples
from phextsync.web.shell import Shell

FIGURES: Final = (
    ("edits", "Edits", "a second"),
    ("received", "Received", "kB a second"),
    ("sent", "Sent", "kB a second"),
    ("commit", "Commit", "ms"),
    ("round_trip", "Round trip", "ms"),
    ("memory", "Memory", "MB"),
)
"""Their names, for programs and for people, and their units."""


class FiguresView:
    """The view of the figures of a node."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._samples = Samples(shell.node)

    def routes(self) -> list[Route]:
        """Return what leads here."""
        return [
            Route("/figures", self._shell.guarded(self._show)),
            Route("/figures.json", self._shell.guarded(self._list)),
        ]

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self._samples.take(self._shell.now_ms() // 1000)
            await trio.sleep(INTERVAL_S)

    async def _show(self, request: Request) -> Response:
        rows = self._samples.rows()
        measured, problem = None, ""
        try:
            measured = await trio.to_thread.run_sync(kept, self._shell.node.folder)
        except PhextsyncError as error:
            problem = str(error)
        return self._shell.page(
            "figures.html",
            "figures",
            figures=FIGURES,
            last=rows[-1] if rows else None,
            interval_s=round(INTERVAL_S),
            store=self._shell.node.status().store,
            measured=measured,
            measured_problem=problem,
        )

    async def _list(self, request: Request) -> Response:
        return JSONResponse(self._samples.rows())
