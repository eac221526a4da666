"""The commands that run this node, serve its scrolls, and measure them."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import trio
import typer

from phextsync.addresses import reached_at
from phextsync.agents.voters import Voters
from phextsync.cli import measure
from phextsync.cli.common import (
    DATA,
    NODE,
    Data,
    bar,
    close_output,
    counted,
    existing_folder,
    fail,
    is_terminal,
    progress_bars,
    refuse_unused,
    say,
    warn,
    warn_of_import,
)
from phextsync.cli.doors import (
    OF_HTTP,
    AllowedHosts,
    Doors,
    HookSecretFile,
    HookUrls,
    Token,
    TokenFile,
    Web,
    WebCert,
    WebKey,
    address_of,
    check_doors,
    doors_of,
    guard_of,
    hooks_of,
    open_doors,
    reached,
)
from phextsync.cli.logs import log_to
from phextsync.cli.settings import Configured
from phextsync.cli.starting import check_in_memory
from phextsync.cli.status import of_bytes
from phextsync.cli.supervisor import Supervisor
from phextsync.control.sockets import ABSENT
from phextsync.discovery import Address
from phextsync.errors import StoreError, StoreLockedError
from phextsync.files import service
from phextsync.files.bindings import BindingStore
from phextsync.gateways.measured import keep
from phextsync.handles.engine import Options
from phextsync.node.memory import all_sent, unsent_warnings
from phextsync.node.node import DEFAULT_PORT, Node, open_node
from phextsync.replica.changes import STAMP_CHARACTERS_MAX, is_stamp, writing_as
from phextsync.sync.events import PeerJoined, PeerLost
from phextsync.systems.ending import ending_signals
from phextsync.terminal import visible
from phextsync.trust.identity import NodeIdentity

if TYPE_CHECKING:
    from rich.progress import TaskID

app = typer.Typer()

_PATIENCE_S: Final = 10.0
_ALONE_S: Final = 5.0  # while what directories hold is taken in
_PAUSE_S: Final = 0.05
_SEND_S: Final = 10.0  # at the end, for what is in memory alone
_LINES_MAX: Final = 100

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
InMemory = Annotated[
    bool,
    typer.Option(
        "--data-in-memory",
        help="Keep scrolls in memory for as long as it runs, and hold nothing: what is read is "
        "asked of peers. For a data folder that lies on a network.",
    ),
]
FindPeers = Annotated[bool, typer.Option("--mdns/--no-mdns", help="Find peers on the LAN.")]


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
    in_memory: bool = False


@app.command(rich_help_panel=NODE)
def up(
    context: typer.Context,
    data: Configured = DATA,
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
    data_in_memory: InMemory = False,
    log: Annotated[
        Path | None, typer.Option(help="Keep a log in this file, the older part in FILE.1 to .5.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    """Run the node until it is interrupted (SIGINT, SIGTERM, SIGHUP).

    What is not given here may stand in config.toml of the data folder: see `phextsync config`.
    Waits up to 10 s for a command that has the folder open.
    """
    check_doors(context, served=bool(http or web), posted=bool(hook))
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    log_to(level, log)
    folder = existing_folder(data)
    warn_of_import(folder)
    guard = guard_of(http_token, http_token_file, allow_host)
    hooks = hooks_of(hook, hook_secret_file)
    doors = doors_of(guard, http, web, web_cert, web_key, hooks)
    peers, in_memory = _peers(peer), data_in_memory
    run = _Run(folder, host or None, port, peers, mdns, index, quiet, doors, in_memory)
    trio.run(_up, run)


def _peers(given: list[str] | None) -> tuple[str, ...]:
    """Return the peers to dial, which must be addresses."""
    return tuple(str(address_of("--peer", peer, DEFAULT_PORT)) for peer in given or ())


async def _up(run: _Run) -> None:
    if run.in_memory:
        check_in_memory(run.folder)
    supervisor = Supervisor(os.environ)
    supervisor.tell(STATUS="opens the data folder")
    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            scopes = [nursery.cancel_scope]
            nursery.start_soon(_cancel_at_signals, signals, scopes, supervisor)
            async with AsyncExitStack() as stack:
                node = await _opened(run, stack)
                if run.in_memory:
                    with trio.CancelScope() as serving:
                        scopes.append(serving)
                        await _serve(node, run, supervisor)
                    await _send_all(node)
                else:
                    await _serve(node, run, supervisor)
            nursery.cancel_scope.cancel()


async def _cancel_at_signals(
    signals: AsyncIterator[int], scopes: list[trio.CancelScope], supervisor: Supervisor
) -> None:
    """Cancel the innermost scope that is left with each signal."""
    async for _ in signals:
        supervisor.tell(STOPPING=1, STATUS="writes what is not yet on the disk")
        if scopes:
            scopes.pop().cancel()


async def _send_all(node: Node) -> None:
    """Give peers some seconds to take what is in memory alone, and say so."""
    for line in unsent_warnings(node.replicas):
        await _tell([f"{line}; waits up to {_SEND_S:.0f} s for peers to take them"])
    lost = await all_sent(node.replicas, node.agreement.progress, _SEND_S)
    if lost:
        warn(f"{counted(lost, 'scroll')} had edits that nobody took: they are lost")


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
                    alone_s=0.0 if run.in_memory else _ALONE_S,
                    in_memory=run.in_memory,
                )
            )
        except StoreLockedError as error:
            if trio.current_time() > deadline:
                raise
            if not is_told:
                warn(f"{error}; waiting for it to end")
                is_told = True
        await trio.sleep(_PAUSE_S)


async def _serve(node: Node, run: _Run, supervisor: Supervisor) -> None:
    """Serve what is to be served, and say what is, until cancelled."""
    if run.index:
        node.searcher.start()
    keep_running = node.boundary.keep_running
    async with trio.open_nursery() as nursery:
        if not run.in_memory:  # whose votes would end with it
            nursery.start_soon(service.serve, node)
            nursery.start_soon(Voters(node).run)
        doors = await open_doors(node, run.doors, nursery)
        state = partial(supervisor.serve, partial(_state, node))
        nursery.start_soon(keep_running, "telling the service manager", state)
        if not run.is_quiet:
            await _tell([*_addresses(node, run.host), *doors, *_bindings(run.folder)])
            nursery.start_soon(keep_running, "telling of peers", partial(_tell_peers, node))
            if is_terminal():
                progress = partial(_show_progress, node)
                nursery.start_soon(keep_running, "showing progress", progress)
        await trio.sleep_forever()


def _state(node: Node) -> str:
    return f"listens on port {node.port}, {counted(len(node.peers()), 'peer')}"


def _addresses(node: Node, host: str | None) -> Iterator[str]:
    identity = node.identity
    yield f"{identity.name} ({identity.node_id.hex()[:8]}) listens on port {node.port}"
    for address in reached_at(host):
        yield f"  at {Address(address, node.port)}"
    if node.replicas.store.is_fleeting:
        yield "  keeps scrolls in memory, and holds nothing: what peers do not take ends with it"


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
                    size = of_bytes(row.text_bytes, row.text_bytes_of)
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
    context: typer.Context,
    data: Configured = DATA,
    http: Annotated[
        str, typer.Option(help="HOST[:PORT] to serve streamable HTTP on.", show_default="stdio")
    ] = "",
    http_token: Token = "",
    http_token_file: TokenFile = None,
    allow_host: AllowedHosts = None,
    writer: Annotated[
        str, typer.Option(help="The label under which the agent writes, by which it is known.")
    ] = "",
    port: Port = None,
    host: Host = "",
    peer: Peers = None,
    mdns: FindPeers = True,
) -> None:
    """Serve the scrolls to an agent over the Model Context Protocol, on standard input and output.

    Asks the node that runs on the folder; where none does, it runs the node, with the last four
    options, or what config.toml of the folder says in their place.
    """
    if not http:
        refuse_unused(context, "without --http", *OF_HTTP)
    log_to(logging.WARNING)
    try:
        from phextsync.gateways import mcp_server  # only serving agents needs its packages
    except ImportError:
        fail("serving agents needs more packages: pip install 'phextsync[mcp]'")
    if writer and not is_stamp(writer):
        fail(f"expected a label of at most {STAMP_CHARACTERS_MAX} characters, found {writer!r:.80}")
    options = Options(host=host or None, port=port, peers=_peers(peer), discover=mdns)
    folder = existing_folder(data)
    NodeIdentity.load(folder)
    if not http:
        if not sys.stdin.readable():
            fail("expected a client on standard input, found it closed; to serve HTTP, give --http")
        with writing_as(writer):
            asyncio.run(mcp_server.serve_stdio(folder, options, ending_signals()))
        return
    guard = guard_of(http_token, http_token_file, allow_host)
    address = address_of("--http", http, mcp_server.DEFAULT_PORT, guard)

    def started(port: int) -> None:
        print(f"MCP at http://{reached(Address(address.host, port))}{mcp_server.PATH}", flush=True)

    signals = ending_signals()
    serving = mcp_server.serve_http(folder, options, address, guard, signals, started=started)
    with writing_as(writer):
        asyncio.run(serving)


@app.command(name="measure", rich_help_panel=NODE)
def measure_(
    data: Data = DATA,
    out: Annotated[Path, typer.Option("--out", help="Where to write the report.")] = Path(
        "measured"
    ),
) -> None:
    """Measure the mesh from this node while it runs; write report.md, CSV, JSON and figures.

    Lines go into one scroll of the phext `measure`, which is cleared at the end. The page that
    `up --web` serves shows the last report.
    """
    folder = existing_folder(data)
    try:
        with bar("measuring") as show:
            document = measure.measure(folder, f"phextsync measure --out {out}", show)
    except ABSENT:
        fail(f"no node runs on {folder}; start one with `phextsync up`")
    document.write(out)
    keep(folder, document.tables(time.time_ns() // 1_000_000))  # for the page
    warn(f"written to {out / 'report.md'}")
