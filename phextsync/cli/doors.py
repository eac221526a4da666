"""The doors of a node that `up` opens to clients which are not ours, and who may come in there."""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, cast

import trio
import typer

from phextsync.addresses import reached_at
from phextsync.cli.common import open_waiting, refuse_unused
from phextsync.discovery import Address, parse_address
from phextsync.errors import LinkError, PhextsyncError
from phextsync.gateways.guard import Guard
from phextsync.gateways.hooks import Hook, Target
from phextsync.node.node import Node

_LINE_BYTES_MAX: Final = 64 << 10

Token = Annotated[
    str, typer.Option(envvar="PHEXTSYNC_HTTP_TOKEN", help="What HTTP clients must show.")
]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the token, which `ps` does not show.")
]
AllowedHosts = Annotated[
    list[str] | None, typer.Option(help="Another name by which HTTP clients reach this machine.")
]
Web = Annotated[
    str, typer.Option(help="HOST[:PORT] to serve a page and editors on.", show_default="not served")
]
WebCert = Annotated[
    Path | None, typer.Option(help="A certificate (PEM) for --web, which then is HTTPS.")
]
WebKey = Annotated[Path | None, typer.Option(help="The key (PEM) of that certificate.")]
HookUrls = Annotated[
    list[str] | None, typer.Option("--hook", help="An address to post changes to; may be repeated.")
]
HookSecretFile = Annotated[
    Path | None,
    typer.Option(
        envvar="PHEXTSYNC_HOOK_SECRET_FILE", help="A file with what posts to hooks are signed with."
    ),
]


@dataclass(frozen=True, slots=True)
class Doors:
    """Where to serve what; None is nowhere. `hooks` are where to post what changes."""

    guard: Guard
    http: Address | None
    web: Address | None
    tls: ssl.SSLContext | None
    hooks: tuple[Target, ...]


_FILES: Final = ("http-token-file", "hook-secret-file", "web-cert", "web-key")
OF_HTTP: Final = ("http_token", "http_token_file", "allow_host")
"""Options about who may come in over HTTP."""


def check_doors(context: typer.Context, *, served: bool, posted: bool) -> None:
    """End `up` where one of its options would do nothing, or a token is none."""
    if not served:
        refuse_unused(context, "without --http or --web", *OF_HTTP)
    if not posted:
        refuse_unused(context, "without --hook", "hook_secret_file")


def guard_of(token: str, token_file: Path | None, hosts: list[str] | None) -> Guard:
    """Return the guard of all doors."""
    if token_file is not None:
        token = _line_of(token_file, "latin-1")
        if not token:
            raise PhextsyncError(f"expected a token in {token_file}, found nothing")
        if not (token.isascii() and token.isprintable()):
            raise PhextsyncError(
                f"expected a line of ASCII in {token_file}: others cannot be sent by clients"
            )
    return Guard(token or None, allowed_hosts=hosts or ())


def _line_of(file: Path, encoding: str) -> str:
    """Return what a file or a pipe has, which is to be a line."""
    with open_waiting(file.expanduser(), "rb") as opened:
        data = opened.read(_LINE_BYTES_MAX + 1)
    if len(data) > _LINE_BYTES_MAX:
        raise PhextsyncError(f"expected a line in {file}, found more than {_LINE_BYTES_MAX} bytes")
    try:
        return data.decode(encoding).strip()
    except UnicodeDecodeError as error:
        found = f"found other bytes at offset {error.start}"
        raise PhextsyncError(f"expected {encoding} in {file}, {found}") from None


def hooks_of(urls: list[str] | None, secret_file: Path | None) -> tuple[Target, ...]:
    """Return where to post what changes."""
    if not urls:
        return ()
    secret = "" if secret_file is None else _line_of(secret_file, "UTF-8")
    if not secret:
        raise PhextsyncError(
            "expected a secret to sign posts to hooks with: see --hook-secret-file"
        )
    return tuple(Target(url, secret) for url in urls)


def address_of(option: str, text: str, default_port: int, guard: Guard | None = None) -> Address:
    """Return the address that is given with an option, at which a guard lets be served."""
    try:
        address = parse_address(text, default_port)
        if guard is not None:
            guard.check_address(address.host)  # before anything runs
    except LinkError as error:
        raise PhextsyncError(f"{option} {text}: {error}") from error
    return address


def reached(address: Address) -> Address:
    """Return where clients are likeliest to reach what is served at an address: one that stands for
    all of the machine is none that they can ask."""
    return Address(next(iter(reached_at(address.host)), address.host), address.port)


def doors_of(
    guard: Guard,
    http: str,
    web: str,
    cert: Path | None,
    key: Path | None,
    hooks: tuple[Target, ...],
) -> Doors:
    """Return what is to be served, once its packages are known to be there."""
    served = _http_address(http, guard) if http else None
    if (cert is None) != (key is None) or (cert is not None and not web):
        raise PhextsyncError("expected --web-cert and --web-key together, with --web")
    if not web:
        return Doors(guard, served, None, None, hooks)
    try:
        from phextsync.web import server, serving  # only serving it needs its packages
    except ImportError:
        raise PhextsyncError(
            "serving the page needs more packages: pip install 'phextsync[web]'"
        ) from None
    address = address_of("--web", web, serving.DEFAULT_PORT, guard)
    tls = None if cert is None or key is None else server.tls_of(cert, key)
    return Doors(guard, served, address, tls, hooks)


def _http_address(http: str, guard: Guard) -> Address:
    try:
        from phextsync.gateways import (
            http as gateway,  # only serving HTTP needs its packages
        )
    except ImportError:
        raise PhextsyncError(
            "serving HTTP needs more packages: pip install 'phextsync[http]'"
        ) from None
    return address_of("--http", http, gateway.DEFAULT_PORT, guard)


def check_said(values: Mapping[str, object], environment: Mapping[str, str]) -> None:
    """PhextsyncError or OSError for what ends an `up` without options, of what config.toml and the
    environment say of doors. A pipe is not waited for."""
    said = {**values, **dict(_of_environment(environment))}
    files = {name: Path(str(said[name])).expanduser() for name in _FILES if said.get(name)}
    http, web, hooks = (said.get(name) or "" for name in ("http", "web", "hook"))
    if any(file.is_fifo() for file in files.values()):
        return
    hosts = [*map(str, cast("list[object]", said.get("allow-host") or []))]
    guard = guard_of(str(said.get("http-token") or ""), files.get("http-token-file"), hosts)
    urls = [*map(str, cast("list[object]", hooks or []))]
    targets = hooks_of(urls, files.get("hook-secret-file"))
    doors_of(guard, str(http), str(web), files.get("web-cert"), files.get("web-key"), targets)


def _of_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("http-token", "hook-secret-file"):
        if said := environment.get(f"PHEXTSYNC_{name.upper().replace('-', '_')}"):
            yield name, said


async def open_doors(node: Node, doors: Doors, nursery: trio.Nursery) -> list[str]:
    """Open them in a nursery; return a line about each, for people."""
    lines: list[str] = []
    for target in doors.hooks:
        nursery.start_soon(Hook(node, target).run)
        lines.append(f"  changes are posted to {target.place}")
    if doors.http is not None:
        from phextsync.gateways import http as gateway  # which is there: see `doors_of`

        server = gateway.Gateway(node, guard=doors.guard)
        port = await nursery.start(server.serve, doors.http)
        lines.append(f"  HTTP at http://{reached(Address(doors.http.host, port))}")
    if doors.web is not None:
        from phextsync.web import serving

        serve = partial(serving.serve, node, doors.web, doors.guard, tls=doors.tls)
        port = await nursery.start(serve)
        scheme = "http" if doors.tls is None else "https"
        lines.append(f"  the page at {scheme}://{reached(Address(doors.web.host, port))}")
    return lines
