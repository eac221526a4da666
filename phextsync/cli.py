"""The phextsync command: a thin layer over the operations of `control` and `open_node`.

Every command works on one data folder. When a node runs there, the command asks it; when none
does, it opens the folder, does the same by itself and closes it.
"""

import asyncio
import faulthandler
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import TextIOWrapper
from pathlib import Path
from random import SystemRandom
from typing import Annotated, TypedDict

import trio
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from phextsync import folders, measure, phextfile, upkeep
from phextsync.attach import Asked, first, visit
from phextsync.control import Attachment, Value
from phextsync.discovery import Address, parse_address
from phextsync.embed import Options, as_hits
from phextsync.errors import PhextsyncError
from phextsync.guard import Guard
from phextsync.identity import NodeIdentity
from phextsync.index import Coordinate, CoordinateRange
from phextsync.membership_cli import DATA as _DATA
from phextsync.membership_cli import Data, Json
from phextsync.membership_cli import app as _membership_app
from phextsync.membership_cli import existing_folder as _folder
from phextsync.membership_cli import fail as _fail
from phextsync.node import DEFAULT_PHEXT, DEFAULT_PORT, Node, open_node
from phextsync.past_cli import Phext, Place, Range
from phextsync.past_cli import app as _past_app
from phextsync.rebuild import Rebuilt

app = typer.Typer(
    help="Keep phexts - text in nine dimensions - the same on many machines without a server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(_membership_app)
app.add_typer(_past_app)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

_IMPORT_BYTES = 256 << 10
_WIDE = 200

Port = Annotated[int, typer.Option(help="TCP port; any free one when it is taken.")]
Host = Annotated[str, typer.Option(help="Address to listen on.", show_default="all")]
Peers = Annotated[
    list[str] | None, typer.Option("--peer", help="HOST[:PORT] to dial; may be repeated.")
]
FindPeers = Annotated[bool, typer.Option("--mdns/--no-mdns", help="Find peers on the LAN.")]
Token = Annotated[
    str, typer.Option(envvar="PHEXTSYNC_HTTP_TOKEN", help="What HTTP clients must show.")
]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the token, which `ps` does not show.")
]
AllowedHosts = Annotated[
    list[str] | None, typer.Option(help="Another name by which HTTP clients reach this machine.")
]


def main() -> None:
    """Run the command; an expected failure is one line on standard error and status 1."""
    faulthandler.enable()  # a damaged page can end the process with a signal: not in silence
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # whatever the locale says
    try:
        app()
    except (PhextsyncError, OSError) as error:
        _fail(str(error))
    except ExceptionGroup as group:
        expected, others = group.split((PhextsyncError, OSError))
        if expected is None or others is not None:
            raise
        _fail(str(first(expected)))
    except KeyboardInterrupt:
        sys.exit(130)


# -- running -------------------------------------------------------------------------------


@app.command()
def up(
    data: Data = _DATA,
    port: Port = DEFAULT_PORT,
    host: Host = "",
    peer: Peers = None,
    mdns: FindPeers = True,
    http: Annotated[
        str, typer.Option(help="HOST[:PORT] to serve SQ's API on.", show_default="not served")
    ] = "",
    http_token: Token = "",
    http_token_file: TokenFile = None,
    allow_host: AllowedHosts = None,
    index: Annotated[
        bool, typer.Option(help="Keep the search index in step, not only once it is asked.")
    ] = True,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Run the node until it is interrupted."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s",
    )
    guard = _guard(http_token, http_token_file, allow_host)
    serve_http = _http_server(http, guard) if http else None
    trio.run(_up, _folder(data), host or None, port, tuple(peer or ()), mdns, index, serve_http)


def _guard(token: str, token_file: Path | None, hosts: list[str] | None) -> Guard:
    if token_file is not None:
        token = token_file.read_text().strip()
        if not token:
            _fail(f"expected a token in {token_file}, found nothing")
    return Guard(token or None, allowed_hosts=hosts or ())


def _http_server(http: str, guard: Guard) -> Callable[[Node, trio.Nursery], Awaitable[int]]:
    try:
        from phextsync import gateway  # only whoever serves HTTP needs its packages
    except ImportError:
        _fail("serving HTTP needs more packages: pip install 'phextsync[http]'")
    address = parse_address(http, gateway.DEFAULT_PORT)

    async def serve(node: Node, nursery: trio.Nursery) -> int:
        served = gateway.Gateway(node, guard=guard)
        port: int = await nursery.start(served.serve, address)
        return port

    return serve


async def _up(
    folder: Path,
    host: str | None,
    port: int,
    peers: tuple[str, ...],
    mdns: bool,
    index: bool,
    serve_http: Callable[[Node, trio.Nursery], Awaitable[int]] | None,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_node(folder, host=host, port=port, peers=peers, discover=mdns) as node:
            identity = node.identity
            print(
                f"{identity.name} ({identity.node_id.hex()[:8]}) listens on port {node.port}",
                flush=True,
            )
            if index:
                node.searcher.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(folders.serve, node)
                if serve_http is not None:
                    print(f"HTTP on port {await serve_http(node, nursery)}", flush=True)
                if _err.is_terminal:
                    nursery.start_soon(_show_progress, node)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    return


async def _show_progress(node: Node) -> None:
    """Draw a bar for each phext of which peers hold more scrolls than we have."""
    with _progress() as progress:
        bars = {}
        while True:
            for row in node.core.progress():
                have, of = row.scrolls, row.scrolls_of
                if have < of and row.phext not in bars:
                    bars[row.phext] = progress.add_task("", total=of)
                if row.phext in bars:
                    size = _of_bytes(row.text_bytes, row.text_bytes_of)
                    progress.update(
                        bars[row.phext],
                        description=f"receiving {row.phext}, {size}",
                        completed=min(have, of),
                        total=of,
                    )
                    if have >= of:
                        progress.remove_task(bars.pop(row.phext))
            await trio.sleep(0.2)


@app.command()
def mcp(
    data: Data = _DATA,
    http: Annotated[
        str, typer.Option(help="HOST[:PORT] to serve streamable HTTP on.", show_default="stdio")
    ] = "",
    http_token: Token = "",
    http_token_file: TokenFile = None,
    allow_host: AllowedHosts = None,
    port: Port = DEFAULT_PORT,
    host: Host = "",
    peer: Peers = None,
    mdns: FindPeers = True,
) -> None:
    """Serve the scrolls to an agent over the Model Context Protocol, on standard input and output.

    Asks the node that runs on the folder; where none does, it runs the node, with the last four
    options.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        from phextsync import mcp_server  # only whoever serves agents needs its packages
    except ImportError:
        _fail("serving agents needs more packages: pip install 'phextsync[mcp]'")
    options = Options(host=host or None, port=port, peers=tuple(peer or ()), discover=mdns)
    folder = _folder(data)
    NodeIdentity.load(folder)
    if not http:
        asyncio.run(mcp_server.serve_stdio(folder, options))
        return
    guard = _guard(http_token, http_token_file, allow_host)
    address = parse_address(http, mcp_server.DEFAULT_PORT)

    def started(port: int) -> None:
        print(f"MCP at http://{Address(address.host, port)}{mcp_server.PATH}", flush=True)

    asyncio.run(mcp_server.serve_http(folder, options, address, guard, started=started))


# -- reading and writing -------------------------------------------------------------------


@app.command()
def get(coordinate: Place, data: Data = _DATA, phext: Phext = DEFAULT_PHEXT) -> None:
    """Print a scroll's text."""
    with _session(data) as session:
        text = session.ask("get", phext, _coordinate(coordinate))
    if not isinstance(text, str):
        _fail(f"there is no scroll at {coordinate} in {phext}")
    sys.stdout.write(text)
    if sys.stdout.isatty() and not text.endswith("\n"):
        sys.stdout.write("\n")


@app.command(name="set")
def set_(
    coordinate: Place,
    text: Annotated[str, typer.Argument(help="The new text; '-' reads it from standard input.")],
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
) -> None:
    """Make TEXT the scroll's text by the smallest change."""
    with _session(data) as session:
        session.ask("set", phext, _coordinate(coordinate), _text(text))


@app.command()
def append(
    coordinate: Place,
    text: Annotated[str, typer.Argument(help="What to add; '-' reads it from standard input.")],
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
) -> None:
    """Add TEXT at the end of a scroll, as a line of its own."""
    text = _text(text)
    line = text if text.endswith("\n") else text + "\n"
    with _session(data) as session:
        session.ask("append", phext, _coordinate(coordinate), line)


@app.command()
def rm(coordinate: Place, data: Data = _DATA, phext: Phext = DEFAULT_PHEXT) -> None:
    """Delete a scroll; what others type in it meanwhile survives."""
    with _session(data) as session:
        if not session.ask("remove", phext, _coordinate(coordinate)):
            _fail(f"there is no scroll at {coordinate} in {phext}")


@app.command()
def ls(
    range_: Range = "*", data: Data = _DATA, phext: Phext = DEFAULT_PHEXT, as_json: Json = False
) -> None:
    """List the scrolls in a range: coordinate, bytes, first line."""
    CoordinateRange.parse(range_)
    with _session(data) as session:
        rows = list(_pages(session, "list", phext, range_))
    if as_json:
        names = ("coordinate", "bytes", "first_line")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False))
        return
    width = max((len(str(row[0])) for row in rows), default=0)
    for coordinate, size, line in rows:
        print(f"{coordinate!s:{width}}  {size!s:>9}  {line!s}")


@app.command()
def search(
    words: Annotated[
        str, typer.Argument(help='All of them; "a phrase" in quotation marks, beginnings as wor*.')
    ],
    range_: Annotated[str, typer.Option("--range", help="Only this range.")] = "*",
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
    limit: Annotated[int, typer.Option(help="How many results at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Find the scrolls that have all the words, the best first: coordinate, score, snippet."""
    CoordinateRange.parse(range_)
    with _session(data) as session:
        hits = as_hits(session.ask("search", phext, range_, words, limit))
    if as_json:
        rows = [
            {"coordinate": str(hit.coordinate), "score": hit.score, "snippet": hit.snippet}
            for hit in hits
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    width = max((len(str(hit.coordinate)) for hit in hits), default=0)
    for hit in hits:
        print(f"{hit.coordinate!s:{width}}  {hit.score:6.2f}  {' '.join(hit.snippet.split())}")
    if not hits:
        _fail(f"no scroll in {range_} of {phext} has {words!r}")


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.phext", exists=True, dir_okay=False)],
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave scrolls alone that have text.")
    ] = False,
    clamp: Annotated[
        bool, typer.Option("--clamp", help="Read breaks beyond 999 as 999 and join what collides.")
    ] = False,
) -> None:
    """Read a .phext file: the file wins at its own coordinates, others stay as they are."""
    parsed = phextfile.read(file.read_bytes(), clamp=clamp)
    for collision in parsed.collisions:
        _err.print(f"{collision.texts} texts beyond 999 were joined at {collision.coordinate}")
    scrolls = [(str(coordinate), text) for coordinate, text in parsed.joined().items()]
    taken = 0
    with _session(data) as session, _progress() as progress:
        bar = progress.add_task(f"importing {file.name}", total=len(scrolls))
        for chunk in _chunks(scrolls):
            count = session.ask("import", phext, keep, chunk)
            taken += count if isinstance(count, int) else 0
            progress.advance(bar, len(chunk))
    _err.print(f"{taken} of {len(scrolls)} scrolls imported into {phext}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.phext", dir_okay=False)],
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
    range_: Annotated[str, typer.Option("--range", help="Only this range.")] = "*",
) -> None:
    """Write the scrolls to a .phext file."""
    CoordinateRange.parse(range_)
    with _session(data) as session:
        scrolls = [
            (Coordinate.parse(str(coordinate)), str(text))
            for coordinate, text in _pages(session, "read", phext, range_)
        ]
    replaced = sum(phextfile.has_breaks(text) for _, text in scrolls)
    if replaced:
        _err.print(f"{replaced} scrolls have break characters, written as control pictures")
    file.write_bytes(phextfile.implode(scrolls).encode())
    _err.print(f"{len(scrolls)} scrolls of {phext} written to {file}")


@app.command()
def status(data: Data = _DATA, as_json: Json = False) -> None:
    """Show this node, its phexts and its peers.

    The lag of a peer is what it does not yet have on its disk: scrolls, and the bytes of their
    texts, of which only what changed is to be sent.
    """
    with _session(data) as session:
        answer = json.loads(str(session.ask("status")))
    if as_json:
        print(json.dumps(answer))
        return
    state = f"runs on port {answer['port']}" if answer["running"] else "is not running"
    _out.print(f"{answer['name']} ({answer['node_id'][:8]}) {state}, data in {answer['folder']}")
    table = Table("phext", "scrolls", "bytes", "fingerprint", box=None)
    for row in answer["phexts"]:
        table.add_row(row["name"], str(row["scrolls"]), str(row["bytes"]), row["fingerprint"])
    _out.print(table)
    for row in answer.get("receiving", ()):
        _out.print(
            f"receiving {row['phext']}: {row['scrolls']} of {row['scrolls_of']} scrolls, "
            f"{_of_bytes(row['text_bytes'], row['text_bytes_of'])}"
        )
    if answer["running"]:
        for table in (_peer_table(answer["peers"]), _absent_table(answer["absent"])):
            if table.row_count:
                _out.print(table, width=max(_out.width, _WIDE))  # a terminal wraps whole lines
        for warning in answer["warnings"]:
            _out.print(f"warning: {warning}")


@app.command(name="measure")
def measure_(
    data: Data = _DATA,
    out: Annotated[Path, typer.Option("--out", help="Where to write the report.")] = Path(
        "measured"
    ),
) -> None:
    """Measure the mesh from this node while it runs; write report.md, CSV, JSON and figures.

    Lines go into one scroll of the phext `measure`, which is cleared at the end.
    """
    folder = _folder(data)
    try:
        with _bar("measuring") as show:
            document = measure.measure(folder, f"phextsync measure --out {out}", show)
    except (FileNotFoundError, ConnectionRefusedError):
        _fail(f"no node runs on {folder}; start one with `phextsync up`")
    document.write(out)
    _err.print(f"written to {out / 'report.md'}")


class _PeerRow(TypedDict):
    node_id: str
    name: str
    address: str
    state: str
    lag_scrolls: int
    lag_bytes: int
    round_trip_ms: float | None
    bytes_in: int
    bytes_out: int
    last_error: str


class _AbsentRow(TypedDict):
    node_id: str | None
    name: str
    address: str
    last_seen_s: float | None
    reason: str


def _peer_table(peers: list[_PeerRow]) -> Table:
    table = Table("peer", "address", "state", "lag", "round trip", "in", "out", box=None)
    table.add_column("last error")
    for peer in peers:
        trip = peer["round_trip_ms"]
        scrolls, text_bytes = peer["lag_scrolls"], peer["lag_bytes"]
        table.add_row(
            f"{peer['name']} ({peer['node_id'][:8]})",
            peer["address"],
            peer["state"],
            f"{scrolls} scrolls, {decimal(text_bytes)}" if scrolls else "",
            "" if trip is None else f"{trip:.2f} ms",
            decimal(peer["bytes_in"]),
            decimal(peer["bytes_out"]),
            peer["last_error"],
        )
    return table


def _absent_table(peers: list[_AbsentRow]) -> Table:
    table = Table("not connected", "address", "last seen", "why", box=None)
    for peer in peers:
        seen_s = peer["last_seen_s"]
        node_id = (peer["node_id"] or "")[:8]
        table.add_row(
            f"{peer['name']} ({node_id})" if peer["name"] else node_id,
            peer["address"],
            "" if seen_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen_s)),
            peer["reason"],
        )
    return table


@app.command()
def watch(
    range_: Range = "*", data: Data = _DATA, phext: Phext = DEFAULT_PHEXT, as_json: Json = False
) -> None:
    """Print a line for each change in a range until interrupted, and one when some were missed."""
    CoordinateRange.parse(range_)
    try:
        attachment = Attachment(_folder(data))
    except (FileNotFoundError, ConnectionRefusedError):
        _fail(f"no node runs on {_folder(data)}; start one with `phextsync up`")
    with attachment:
        next_change = attachment.watch(phext, range_)
        while True:
            for line in _change_lines(next_change(), as_json=as_json):
                print(line, flush=True)


def _change_lines(change: Value, *, as_json: bool) -> Iterator[str]:
    """Give a line for each scroll of a change, and one when some were missed."""
    match change:
        case [_, _, str(missed), _]:
            text = f"changes were missed: anything in {missed} may have changed"
            yield json.dumps({"missed": missed}) if as_json else text
        case [bytes() | None as origin, str(label), None, list(scrolls)]:
            whose = origin.hex() if origin else ""
            for scroll in scrolls:
                match scroll:
                    case [str(coordinate), int(size)] if as_json:
                        row = {"coordinate": coordinate, "bytes": size, "origin": whose}
                        yield json.dumps({**row, "label": label, "missed": None})
                    case [str(coordinate), int(size)]:
                        who = " ".join(filter(None, (whose[:8] or "here", label)))
                        yield f"{coordinate}  {size:>9}  {who}"


# -- bound directories ---------------------------------------------------------------------


@app.command()
def bind(
    directory: Annotated[Path, typer.Argument(help="Made if it is not there.")],
    at: Annotated[str, typer.Option(help="A prefix with four free parts, such as '7.*'.")],
    data: Data = _DATA,
    phext: Phext = DEFAULT_PHEXT,
) -> None:
    """Keep the text files of a directory and the scrolls of a range the same."""
    bound = folders.Bound(directory.expanduser().absolute(), phext, CoordinateRange.parse(at))
    folders.BindingStore(_folder(data)).bind(bound)
    _err.print(f"{bound.directory} is bound to {bound.range} of {phext} while a node runs")


@app.command()
def unbind(directory: Annotated[Path, typer.Argument()], data: Data = _DATA) -> None:
    """End a binding; files and scrolls stay as they are."""
    path = directory.expanduser().absolute()
    if not folders.BindingStore(_folder(data)).unbind(path):
        _fail(f"{path} is not bound")


@app.command()
def bindings(data: Data = _DATA, as_json: Json = False) -> None:
    """List the bound directories."""
    rows = folders.BindingStore(_folder(data)).bindings()
    if as_json:
        print(json.dumps([[str(row.directory), row.phext, str(row.range)] for row in rows]))
        return
    for row in rows:
        print(f"{row.directory}  {row.phext}  {row.range}")


# -- keeping the folder --------------------------------------------------------------------


@app.command()
def check(data: Data = _DATA, as_json: Json = False) -> None:
    """Verify the data folder: structure, checksums, every scroll; status 1 if anything is wrong."""
    with _bar("checking") as show:
        findings = upkeep.check(_folder(data), show)
    if as_json:
        print(json.dumps({"scrolls": findings.scrolls, "problems": findings.problems}))
    else:
        for problem in findings.problems:
            print(problem)
        _err.print(f"{findings.scrolls} sound scrolls, {len(findings.problems)} problems")
    if findings.problems:
        sys.exit(1)


@app.command()
def repair(
    data: Data = _DATA,
    forget: Annotated[
        bool, typer.Option("--forget", help="Give up the scrolls that are still missing.")
    ] = False,
) -> None:
    """Rebuild what can be rebuilt, set aside what cannot, and compact the file."""
    now_ms = time.time_ns() // 1_000_000
    with _bar("repairing") as show:
        done = upkeep.repair(
            _folder(data), random=SystemRandom(), now_ms=now_ms, forget=forget, progress=show
        )
    for line in done.reports:
        print(line)
    for place in done.missing:
        print(f"{place}: lost here; a peer that has it sends it again")
    _err.print(f"{decimal(done.bytes_before)} before, {decimal(done.bytes_after)} now")
    if done.missing:
        sys.exit(1)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)], data: Data = _DATA
) -> None:
    """Copy the scrolls into one new file, also while a node runs; not the node's identity."""
    with _bar("backing up") as show:
        done = upkeep.backup(_folder(data), file, show)
    _err.print(f"{done.scrolls} scrolls written to {file}")
    _fail_if_lost(done, "are not in the backup")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    data: Data = _DATA,
    replace: Annotated[
        bool, typer.Option("--replace", help="Keep a store that is there as store.before-restore.")
    ] = False,
) -> None:
    """Bring a backup into a data folder where no node runs; the node takes new client ids."""
    folder = data.expanduser()
    with _bar("restoring") as show:
        done = upkeep.restore(file, folder, replace=replace, progress=show)
    _err.print(f"{done.scrolls} scrolls restored into {folder}")
    _fail_if_lost(done, "could not be read")


def _fail_if_lost(done: Rebuilt, what: str) -> None:
    for line in done.lost:
        print(line)
    if done.lost or done.unnamed != 0:
        more = "an unknown number of" if done.unnamed is None else str(done.unnamed)
        _fail(f"{len(done.lost)} scrolls and {more} others are damaged and {what}")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is."""
    with _progress() as progress:
        bar = progress.add_task(name, total=None)

        def show(done: int, of: int) -> None:
            progress.update(bar, completed=done, total=of)

        yield show


# -- helpers -------------------------------------------------------------------------------


def _session(data: Path) -> AbstractContextManager[Asked]:
    return visit(_folder(data), _err.print)


def _pages(session: Asked, operation: str, phext: str, range_: str) -> Iterator[list[Value]]:
    after = ""
    while True:
        match session.ask(operation, phext, range_, after):
            case [list(page), bool(more)]:
                rows = [row for row in page if isinstance(row, list)]
                yield from rows
                if not more:
                    return
                after = str(rows[-1][0])
            case other:
                _fail(f"expected a page of scrolls, found {other!r:.60}")


def _chunks(scrolls: list[tuple[str, str]]) -> Iterator[list[Value]]:
    chunk: list[Value] = []
    size = 0
    for coordinate, text in scrolls:
        chunk.append([coordinate, text])
        size += len(text) + 40
        if size >= _IMPORT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_err,
        transient=True,
        disable=not _err.is_terminal,
    )


def _of_bytes(have: int, of: int) -> str:
    """Say how much has come; a peer that does not tell us its whole size says 0."""
    return f"{decimal(have)} of {decimal(of)}" if of else decimal(have)


def _coordinate(text: str) -> str:
    return str(Coordinate.parse(text))


def _text(text: str) -> str:
    """Return an argument, or standard input byte for byte: line ends are text."""
    if text != "-":
        return text
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        _fail(f"expected UTF-8 on standard input, found other bytes at offset {error.start}")


if __name__ == "__main__":
    main()
