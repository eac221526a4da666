"""Pages: what a person sees of a node, as plain HTML made from its status. No script is needed."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from rich.filesize import decimal

from phextsync.control.status import AbsentRow, DirectoryRow, PeerRow, Status

_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="/static/page.css">
</head>
<body>
"""
_LOGIN: Final = """\
<main>
<h1>phextsync</h1>
<form method="post" action="/login">
<label for="token">The token of this node</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
{problem}
</main>
</body>
</html>
"""
_ROWS_MAX: Final = 200


def login_page(problem: str = "") -> str:
    """Return the page on which a token is shown; `problem` is what was wrong with the last."""
    told = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return _HEAD.format(title="phextsync: log in") + _LOGIN.format(problem=told)


def status_page(status: Status, *, has_login: bool) -> str:
    """Return the page about a node: what is wrong, the mesh, the phexts, the directories."""
    title = f"{status.name} - phextsync"
    out = '<form method="post" action="/logout"><button>Log out</button></form>'
    parts = [
        _HEAD.format(title=escape(title)),
        f"<header><h1>{escape(status.name)}</h1>",
        f"<p>Node {escape(status.node_id[:8])} on port {status.port}</p>",
        out if has_login else "",
        "</header>\n<main>\n",
        *_problems(status),
        *_section("Mesh", ("node", "state", "lag", "round trip", "traffic"), _mesh(status)),
        *_section("Phexts", ("phext", "scrolls", "text"), _phexts(status)),
        *_section(
            "Directories", ("directory", "scrolls", "in step", "waiting"), _directories(status)
        ),
        "</main>\n<footer><p>",
        '<a href="/api/v1/openapi.json">API</a> <a href="/metrics">metrics</a> ',
        '<a href="/health">health</a></p></footer>\n</body>\n</html>\n',
    ]
    return "".join(parts)


def _problems(status: Status) -> Iterator[str]:
    problems = [*status.warnings]
    if not status.store.is_writable:
        problems.insert(0, "the disk refuses writes: make room on it; nothing is lost meanwhile")
    problems += [f"{row.directory}: {row.problem}" for row in status.directories if row.problem]
    problems += [
        f"{row.directory}: {row.held} files are missing here; deleting them on all machines waits"
        " to be confirmed: see `phextsync bind --confirm`"
        for row in status.directories
        if row.held
    ]
    yield '<section aria-labelledby="state"><h2 id="state">State</h2>\n'
    if problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in problems[:_ROWS_MAX])
        yield f'<ul class="problems">{items}</ul></section>\n'
    else:
        yield '<p class="good">Nothing is wrong.</p></section>\n'


def _section(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Give a section with a table, whose first column names its rows."""
    key = name.lower()
    yield f'<section aria-labelledby="{key}"><h2 id="{key}">{name}</h2>\n'
    shown = list(rows)
    if not shown:
        yield "<p>None yet.</p></section>\n"
        return
    yield '<div class="wide" tabindex="0" role="region" aria-labelledby="' + key + '"><table>\n'
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    yield f"<thead><tr>{cells}</tr></thead>\n<tbody>\n"
    for first, *others in shown[:_ROWS_MAX]:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        yield f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>\n'
    yield "</tbody></table></div>"
    if len(shown) > _ROWS_MAX:
        yield f"<p>{len(shown) - _ROWS_MAX} more are not shown.</p>"
    yield "</section>\n"


def _mesh(status: Status) -> Iterator[Sequence[str]]:
    yield from map(_peer, status.peers)
    yield from map(_absent, status.absent)


def _peer(row: PeerRow) -> Sequence[str]:
    lag = f"{row.lag_scrolls} scrolls, {decimal(row.lag_bytes)}" if row.lag_scrolls else "none"
    trip = "" if row.round_trip_ms is None else f"{row.round_trip_ms:.1f} ms"
    traffic = f"{decimal(row.bytes_in)} in, {decimal(row.bytes_out)} out"
    return f"{row.name} ({row.node_id[:8]})", row.state, lag, trip, traffic


def _absent(row: AbsentRow) -> Sequence[str]:
    node_id = (row.node_id or "")[:8]
    who = f"{row.name} ({node_id})" if row.name else node_id or row.address or "somebody"
    return who, f"not connected: {row.reason}", "", "", ""


def _phexts(status: Status) -> Iterator[Sequence[str]]:
    for row in status.phexts:
        yield row.name, f"{row.scrolls}", decimal(row.bytes)


def _directories(status: Status) -> Iterator[Sequence[str]]:
    yield from map(_directory, status.directories)


def _directory(row: DirectoryRow) -> Sequence[str]:
    where = f"{row.phext} {row.range}"
    return row.directory, where, f"{row.in_step} of {row.files} files", f"{row.waiting}"
