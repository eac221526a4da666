"""The commands that run this node, serve its scrolls, and say how it is."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Annotated, Final

import trio
import typer
from rich.filesize import decimal
from rich.progress import TaskID

from phextsync.addresses import reached_at
from phextsync.cli import measure
from phextsync.cli.common import (
    DATA,
    NODE,
    Data,
    Json,
    bar,
    close_output,
    counted,
    existing_folder,
    fail,
    is_terminal,
    progress_bars,
    say,
    say_columns,
    say_json,
    session,
    warn,
    warn_of_import,
)
from phextsync.cli.doors import (
    AllowedHosts,
    Doors,
    HookSecretFile,
    HookUrls,
    Token,
    TokenFile,
    Web,
    WebCert,
    WebKey,
    doors_of,
    guard_of,
    hooks_of,
    open_doors,
)
from phextsync.cli.holding import lines_of as holding_lines
from phextsync.cli.placing import placed_lines, short_lines
from phextsync.control import operations
from phextsync.control.sockets import ABSENT
from phextsync.control.status import AbsentRow, PeerRow, Status
from phextsync.discovery import Address, parse_address
from phextsync.errors import StoreError, StoreLockedError
from phextsync.files import service
from phextsync.files.bindings import BindingStore
from phextsync.files.status import lines_of, reasons_of
from phextsync.handles.engine import Options
from phextsync.node.node import Node, open_node
from phextsync.sync.events import PeerJoined, PeerLost
from phextsync.terminal import visible, visible_text
from phextsync.trust.identity import NodeIdentity

app = typer.Typer()

_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.05
_LINES_MAX: Final = 100
_LOG_BYTES: Final = 4 << 20
_LOGS: Final = 5

Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="TCP port.", show_default="7439, or any free one if it is taken"
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.", show_default="all")]
Peers = Annotated[
    list[str] | None, typer.Option("--peer", help="HOST[:PORT] to dial; may be repeated.")
]
FindPeers = Annotated[bool, typer.Option("--mdns/--no-mdns", help="Find peers on the LAN.")]


class _VisibleFormatter(logging.Formatter):
    """Lines of a log that show the control characters in what others wrote."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)


def _log_to(level: int, file: Path | None = None) -> None:
    """Log on standard error from `level` on, and what happens into a file, which is cut in time."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(level)
    if file is not None:
        path = file.expanduser()
        handlers.append(RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS))
        handlers[1].setLevel(min(level, logging.INFO))
    for handler in handlers:
        handler.setFormatter(_VisibleFormatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=min(handler.level for handler in handlers), handlers=handlers)
    logging.raiseExceptions = False  # a full disk, or a terminal that is gone, ends no node


@dataclass(frozen=True, slots=True)
class _Run:
    """How the node is to run."""

    folder: Path
    host: str | None
    port: int | None
    peers: tuple[str, ...]
    discover: bool
    index: bool
    is_quiet: bool
    doors: Doors


@app.command(rich_help_panel=NODE)
def up(
    data: Data = DATA,
    port: Port = None,
    host: Host = "",
    peer: Peers = None,
    mdns: FindPeers = True,
    http: Annotated[
        str, typer.Option(help="HOST[:PORT] to serve SQ's API on.", show_default="not served")
    ] = "",
    web: Web = "",
    web_cert: WebCert = None,
    web_key: WebKey = None,
    hook: HookUrls = None,
    hook_secret_file: HookSecretFile = None,
    http_token: Token = "",
    http_token_file: TokenFile = None,
    allow_host: AllowedHosts = None,
    index: Annotated[
        bool, typer.Option(help="Keep the search index in step, not only once it is asked.")
    ] = True,
    log: Annotated[
        Path | None, typer.Option(help="Keep a log in this file, the older part in FILE.1 to .5.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    """Run the node until it is interrupted (SIGINT, SIGTERM, SIGHUP).

    Waits up to 10 s for a command that has the folder open.
    """
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    _log_to(level, log)
    folder = existing_folder(data)
    warn_of_import(folder)
    guard = guard_of(http_token, http_token_file, allow_host)
    hooks = hooks_of(hook, hook_secret_file)
    doors = doors_of(guard, http, web, web_cert, web_key, hooks)
    peers = tuple(peer or ())
    trio.run(_up, _Run(folder, host or None, port, peers, mdns, index, quiet, doors))


async def _up(run: _Run) -> None:
    with trio.open_signal_receiver(*_ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_signal, signals, nursery.cancel_scope)
            async with AsyncExitStack() as stack:
                node = await _opened(run, stack)
                await _serve(node, run)


def _ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals at which the node stops: what `nohup` ignores stays ignored."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *(() if is_ignored else (signal.SIGHUP,)))


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _opened(run: _Run, stack: AsyncExitStack) -> Node:
    """Open the node, once the process that has its folder open has closed it."""
    deadline = trio.current_time() + _PATIENCE_S
    is_told = run.is_quiet
    while True:
        try:
            return await stack.enter_async_context(
                open_node(
                    run.folder,
                    host=run.host,
                    port=run.port,
                    peers=run.peers,
                    discover=run.discover,
                )
            )
        except StoreLockedError as error:
            if trio.current_time() > deadline:
                raise
            if not is_told:
                warn(f"{error}; waiting for it to end")
                is_told = True
        await trio.sleep(_PAUSE_S)


async def _serve(node: Node, run: _Run) -> None:
    """Serve what is to be served, and say what is, until cancelled."""
    if run.index:
        node.searcher.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.serve, node)
        doors = await open_doors(node, run.doors, nursery)
        if not run.is_quiet:
            await _tell([*_addresses(node, run.host), *doors, *_bindings(run.folder)])
            nursery.start_soon(_tell_peers, node)
            if is_terminal():
                nursery.start_soon(_show_progress, node)
        await trio.sleep_forever()


def _addresses(node: Node, host: str | None) -> Iterator[str]:
    identity = node.identity
    yield f"{identity.name} ({identity.node_id.hex()[:8]}) listens on port {node.port}"
    for address in reached_at(host):
        yield f"  at {Address(address, node.port)}"


def _bindings(folder: Path) -> Iterator[str]:
    try:
        for bound in BindingStore(folder).bindings():
            yield f"  {bound.directory} is bound to {bound.range} of {bound.phext}"
    except StoreError as error:
        yield f"  {error}"


async def _tell_peers(node: Node) -> None:
    """Print a line when a peer comes or goes: a slow reader holds nobody up."""
    send, receive = trio.open_memory_channel[str](_LINES_MAX)
    here: set[bytes] = set()

    def note(event: PeerJoined | PeerLost) -> None:
        is_here = any(peer.node_id == event.peer_id for peer in node.peers())
        if is_here == (event.peer_id in here):
            return  # one of two links
        here.symmetric_difference_update({event.peer_id})
        who = f"{event.name} ({event.peer_id.hex()[:8]})"
        with suppress(trio.WouldBlock):  # nobody reads what there is already
            match event:
                case PeerJoined():
                    send.send_nowait(f"{who} joined")
                case PeerLost():
                    send.send_nowait(f"{who} is gone: {event.reason}")

    node.on_peer = note
    async for line in receive:
        await _tell([line])


async def _tell(lines: Iterable[str]) -> None:
    """Print lines. A terminal that is gone, or a pipe that nobody reads, ends no node."""

    def tell() -> None:
        try:
            say(*lines)
            sys.stdout.flush()
        except OSError:
            close_output()

    await trio.to_thread.run_sync(tell, abandon_on_cancel=True)


async def _show_progress(node: Node) -> None:
    """Draw a bar for each directory that is being taken up, and for each phext of which peers hold
    more scrolls than we have."""
    with progress_bars() as progress:
        bars: dict[str, TaskID] = {}
        directories: dict[str, TaskID] = {}
        while True:
            rows = [] if node.directories is None else node.directories.taking_up()
            for gone in {*directories} - {row[0] for row in rows}:
                progress.remove_task(directories.pop(gone))
            for directory, done, files in rows:
                if directory not in directories:
                    what = visible(f"taking up {directory}")
                    directories[directory] = progress.add_task(what, total=files)
                progress.update(directories[directory], completed=done, total=files)
            for row in node.core.lacks.progress():
                have, of = row.scrolls, row.scrolls_of
                if have < of and row.phext not in bars:
                    bars[row.phext] = progress.add_task("", total=of)
                if row.phext in bars:
                    size = _of_bytes(row.text_bytes, row.text_bytes_of)
                    progress.update(
                        bars[row.phext],
                        description=visible(f"receiving {row.phext}, {size}"),
                        completed=min(have, of),
                        total=of,
                    )
                    if have >= of:
                        progress.remove_task(bars.pop(row.phext))
            await trio.sleep(0.2)


@app.command(rich_help_panel=NODE)
def mcp(
    data: Data = DATA,
    http: Annotated[
        str, typer.Option(help="HOST[:PORT] to serve streamable HTTP on.", show_default="stdio")
    ] = "",
    http_token: Token = "",
    http_token_file: TokenFile = None,
    allow_host: AllowedHosts = None,
    port: Port = None,
    host: Host = "",
    peer: Peers = None,
    mdns: FindPeers = True,
) -> None:
    """Serve the scrolls to an agent over the Model Context Protocol, on standard input and output.

    Asks the node that runs on the folder; where none does, it runs the node, with the last four
    options.
    """
    _log_to(logging.WARNING)
    try:
        from phextsync.gateways import mcp_server  # only serving agents needs its packages
    except ImportError:
        fail("serving agents needs more packages: pip install 'phextsync[mcp]'")
    options = Options(host=host or None, port=port, peers=tuple(peer or ()), discover=mdns)
    folder = existing_folder(data)
    NodeIdentity.load(folder)
    if not http:
        asyncio.run(mcp_server.serve_stdio(folder, options, _ending_signals()))
        return
    guard = guard_of(http_token, http_token_file, allow_host)
    address = parse_address(http, mcp_server.DEFAULT_PORT)

    def started(port: int) -> None:
        print(f"MCP at http://{Address(address.host, port)}{mcp_server.PATH}", flush=True)

    signals = _ending_signals()
    asyncio.run(mcp_server.serve_http(folder, options, address, guard, signals, started=started))


# -- how it is -----------------------------------------------------------------------------


@app.command(rich_help_panel=NODE)
def status(
    data: Data = DATA,
    as_json: Json = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say what is not in step; status 1 if anything is."),
    ] = False,
) -> None:
    """Show this node, its phexts, its bound directories and its peers.

    The lag of a peer is what it does not yet have on its disk: scrolls, and the bytes of their
    texts, of which only what changed is to be sent.
    """
    with session(data) as asked:
        answer = operations.STATUS.ask(asked)
    if check:
        reasons = list(_out_of_step(answer))
        say(*reasons)
        sys.exit(1 if reasons else 0)
    if as_json:
        say_json(asdict(answer))
    else:
        _show_status(answer)
    if not answer.running and answer.warnings:
        fail(answer.warnings[0])


def _show_status(answer: Status) -> None:
    state = f"runs on port {answer.port}" if answer.running else "is not running"
    who = f"{answer.name} ({answer.node_id[:8]})" if answer.name else "the node"
    say(f"{who} {state}, data in {answer.folder}")
    rows = [[row.name, str(row.scrolls), str(row.bytes), row.fingerprint] for row in answer.phexts]
    if rows:
        say_columns([["phext", "scrolls", "bytes", "fingerprint"], *rows])
    else:
        say("no phexts yet")
    say(*(line for row in answer.directories for line in lines_of(row)))
    say(*(line for holding in answer.holding for line in holding_lines(holding)))
    say(*(line for placed in answer.placed for line in placed_lines(placed)))
    if answer.running:
        say(*_running_lines(answer))


def _out_of_step(answer: Status) -> Iterator[str]:
    """Give the reasons why not everything is in step, a line each."""
    if not answer.running:
        yield f"no node runs on {answer.folder}"
        yield from answer.warnings
    for directory in answer.directories:
        yield from reasons_of(directory)
    if not answer.running:
        return
    for placed in answer.placed:
        yield from short_lines(placed)
    for row in answer.receiving:
        yield f"receiving {row.phext}: {row.scrolls} of {row.scrolls_of} scrolls"
    for peer in answer.peers:
        for lack in peer.lacks:
            yield f"peer {peer.name} ({peer.node_id[:8]}) lacks {lack}"
    for absent in answer.absent:
        if absent.is_wanted:
            yield ", ".join(line.strip() for line in _absent_lines(absent))


def _running_lines(answer: Status) -> Iterator[str]:
    """Give what a running node knows of others. Each address has a line with room for it."""
    for row in answer.receiving:
        size = _of_bytes(row.text_bytes, row.text_bytes_of)
        yield f"receiving {row.phext}: {row.scrolls} of {row.scrolls_of} scrolls, {size}"
    for peer in answer.peers:
        yield from _peer_lines(peer)
    for absent in answer.absent:
        yield from _absent_lines(absent)
    for warning in answer.warnings:
        yield f"warning: {warning}"


def _peer_lines(peer: PeerRow) -> Iterator[str]:
    scrolls, trip = peer.lag_scrolls, peer.round_trip_ms
    lag = f", lacks {counted(scrolls, 'scroll')}, {decimal(peer.lag_bytes)}" if scrolls else ""
    yield f"peer {peer.name} ({peer.node_id[:8]}): {peer.state}{lag}"
    yield f"  at {peer.address}"
    took = "" if trip is None else f"round trip {trip:.2f} ms, "
    yield f"  {took}{decimal(peer.bytes_in)} in, {decimal(peer.bytes_out)} out"


def _absent_lines(peer: AbsentRow) -> Iterator[str]:
    node_id, seen_s = (peer.node_id or "")[:8], peer.last_seen_s
    who = f"{peer.name} ({node_id})" if peer.name else node_id or "somebody"
    when = "" if seen_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen_s))
    yield f"not connected: {who}" + (f", last seen {when}" if when else "")
    if peer.address:
        yield f"  at {peer.address}"
    yield f"  {peer.reason}"


def _of_bytes(have: int, of: int) -> str:
    """Say how much has come; a peer that does not tell us its whole size says 0."""
    return f"{decimal(have)} of {decimal(of)}" if of else decimal(have)


@app.command(name="measure", rich_help_panel=NODE)
def measure_(
    data: Data = DATA,
    out: Annotated[Path, typer.Option("--out", help="Where to write the report.")] = Path(
        "measured"
    ),
) -> None:
    """Measure the mesh from this node while it runs; write report.md, CSV, JSON and figures.

    Lines go into one scroll of the phext `measure`, which is cleared at the end.
    """
    folder = existing_folder(data)
    try:
        with bar("measuring") as show:
            document = measure.measure(folder, f"phextsync measure --out {out}", show)
    except ABSENT:
        fail(f"no node runs on {folder}; start one with `phextsync up`")
    document.write(out)
    warn(f"written to {out / 'report.md'}")
