"""The commands about who belongs to a mesh. They work on files; a running node reads them again."""

import ipaddress
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from phextsync.addresses import reached_at
from phextsync.cli.common import (
    DATA,
    MESH,
    Data,
    Json,
    bytes_of_file,
    existing_folder,
    fail,
    line_or_input,
    new_folder,
    read_duration_s,
    refuse_unused,
    say,
    say_columns,
    say_json,
    warn,
    write_output,
)
from phextsync.control import operations
from phextsync.control.client import Attachment
from phextsync.control.sockets import ABSENT
from phextsync.discovery import PEERS_FILE, RememberedPeers
from phextsync.errors import IdentityError
from phextsync.index import CoordinateRange
from phextsync.node import invitations as invitation
from phextsync.node.invitations import INVITATION_PREFIX, Invitation, InvitationCode, Invitations
from phextsync.phext_names import checked_name
from phextsync.transport import format_address
from phextsync.trust import known_peers as membership
from phextsync.trust.authority import DAYS_MAX, Authority, Bundle, MeshKey
from phextsync.trust.certificates import key_pin, read_request
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import KnownPeers
from phextsync.trust.permissions import EVERY_PHEXT, UNRESTRICTED, Permissions
from phextsync.trust.private_files import IDENTITY_FILE

app = typer.Typer()
peers_app = typer.Typer(help="Show, block, allow and forget peers of this node.")
app.add_typer(peers_app, name="peers", invoke_without_command=True, rich_help_panel=MESH)

_Name = Annotated[str, typer.Option(help="This node's name.", show_default="the host name")]
_Who = Annotated[str, typer.Argument(help="A peer's name, or the beginning of its id.")]
_AuthorityFolder = Annotated[
    Path, typer.Option("--authority", help="The folder with the authority's key.")
]
_Read = Annotated[
    list[str] | None, typer.Option("--read", help="A range that may be read; may be repeated.")
]
_Write = Annotated[
    list[str] | None, typer.Option("--write", help="A range that may be written, and read.")
]
_Phexts = Annotated[
    list[str] | None,
    typer.Option("--phext", help="Where the ranges hold.", show_default="every phext"),
]
_Days = Annotated[
    float | None,
    typer.Option(
        min=0.01, max=DAYS_MAX, help="How long the certificate holds.", show_default="for ever"
    ),
]
_Out = Annotated[str, typer.Option("--out", help="Write here; '-' is standard output.")]
_AUTHORITY: Final = Path("~/.phextsync-authority")
_ADDRESSES_MAX: Final = 3
_EXPIRES_MAX_S: Final = 365 * 86_400
_DAY_S: Final = 86400.0
_FILE_BYTES_MAX: Final = 1 << 20  # of requests and certificates


# -- joining -------------------------------------------------------------------------------


@app.command(rich_help_panel=MESH)
def init(
    context: typer.Context,
    data: Data = DATA,
    name: _Name = "",
    administered: Annotated[
        bool, typer.Option("--administered", help="Keep the authority's key to an administrator.")
    ] = False,
    authority: _AuthorityFolder = _AUTHORITY,
) -> None:
    """Make a new mesh and this machine's identity in it; print how the others join."""
    if administered:
        issuer = Authority.generate(os.urandom(32))
        pending = _new_pending(name)
        bundle = issuer.answer(pending.request(), UNRESTRICTED, now_s=time.time(), valid_s=None)
        _check_is_new(data)
        issuer.save(authority.expanduser())
        _save_new(data, pending.accepted(bundle))
        say(
            f"the authority's key lies in {authority.expanduser()}; anybody who has it decides who "
            "belongs to the mesh",
            "on each other machine run `phextsync request`, or invite it here by "
            "`phextsync invite` while this node runs",
        )
        return
    refuse_unused(context, "without --administered", "authority")
    key = MeshKey.generate(os.urandom(32))
    _create(data, key, name)
    say("a new mesh; on each other machine run:", "", f"  phextsync join {key.join_code()}", "")


@app.command(rich_help_panel=MESH)
def join(
    context: typer.Context,
    code: Annotated[
        str,
        typer.Argument(
            help="What `init`, `code`, `rotate` or `invite` printed; '-' reads it from standard "
            "input, so that no other user sees it among the processes."
        ),
    ],
    data: Data = DATA,
    name: _Name = "",
    rotate: Annotated[
        bool, typer.Option("--rotate", help="This node is a member: take the mesh's new key.")
    ] = False,
) -> None:
    """Join a mesh by its code."""
    if rotate:
        refuse_unused(context, "with --rotate", "name")
    code = line_or_input(code)
    if rotate:
        folder = existing_folder(data)
        _replace(folder, NodeIdentity.load(folder).rotated(MeshKey.from_join_code(code)))
        say("the new key is accepted beside the old one until `phextsync rotate --finish`")
    elif "".join(code.lower().split()).startswith(INVITATION_PREFIX):
        invited = InvitationCode.from_text(code)
        _check_is_new(data)
        pending = _new_pending(name)
        _save_new(data, pending.accepted(trio.run(invitation.redeem, invited, pending)))
    else:
        _create(data, MeshKey.from_join_code(code), name)


@app.command(rich_help_panel=MESH)
def code(data: Data = DATA) -> None:
    """Print the code that lets another machine join this mesh."""
    identity = NodeIdentity.load(existing_folder(data))
    if identity.mesh_key is None:
        fail("this node does not hold the mesh key; ask the mesh's administrator")
    say(identity.mesh_key.join_code())


@app.command(rich_help_panel=MESH)
def rotate(
    data: Data = DATA,
    finish: Annotated[
        bool, typer.Option("--finish", help="Accept the old key no more, here and now.")
    ] = False,
) -> None:
    """Give the mesh a new key while its nodes run: machines that do not get it are shut out."""
    folder = existing_folder(data)
    identity = NodeIdentity.load(folder)
    if finish:
        _replace(folder, identity.finished())
        say(f"only the mesh {identity.mesh_tag} is accepted here now")
        return
    if identity.previous is not None:
        fail("a new key is on its way: print its code with `phextsync code`, end it by --finish")
    key = MeshKey.generate(os.urandom(32))
    _replace(folder, identity.rotated(key))
    say(
        "a new key, accepted beside the old one; on each machine that stays run:",
        "",
        f"  phextsync join --rotate {key.join_code()}",
        "",
        "and when all have it, on all of them `phextsync rotate --finish`",
    )


# -- an administered mesh ------------------------------------------------------------------


@app.command(rich_help_panel=MESH)
def request(context: typer.Context, data: Data = DATA, name: _Name = "", out: _Out = "-") -> None:
    """Ask for a certificate: print a request (PKCS#10) to be taken to the administrator. Until the
    certificate is here, the same again."""
    folder = new_folder(data)
    if (folder / IDENTITY_FILE).exists():
        refuse_unused(context, "for a node that has one", "name")
        wanted = NodeIdentity.load(folder).request()
    else:
        wanted = _pending(folder, name).request()
    write_output(out, wanted)


@app.command(rich_help_panel=MESH)
def issue(
    file: Annotated[str, typer.Argument(metavar="REQUEST", help="A file; '-': standard input.")],
    authority: _AuthorityFolder = _AUTHORITY,
    read: _Read = None,
    write: _Write = None,
    phext: _Phexts = None,
    days: _Days = None,
    out: _Out = "-",
) -> None:
    """Answer a request at the administrator: print the node's certificate, to be taken back."""
    wanted = bytes_of_file(file, _FILE_BYTES_MAX)
    issuer = Authority.load(authority.expanduser())
    permissions = _permissions(read, write, phext)
    valid_s = None if days is None else days * _DAY_S
    bundle = issuer.answer(wanted, permissions, now_s=time.time(), valid_s=valid_s)
    warn(f"{read_request(wanted)[0]} {_told(permissions)}")
    write_output(out, bundle.to_pem())


@app.command(rich_help_panel=MESH)
def accept(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="BUNDLE", help="A file; '-': standard input.")],
    data: Data = DATA,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Also from a new authority, beside the present one.")
    ] = False,
) -> None:
    """Install the certificate that the administrator has issued for this node."""
    folder = existing_folder(data)
    bundle = Bundle.from_pem(bytes_of_file(file, _FILE_BYTES_MAX))
    if (folder / IDENTITY_FILE).exists():
        identity = NodeIdentity.load(folder).accepted(bundle, rotates=rotate)
        _replace(folder, identity)
    else:
        refuse_unused(context, "with the first certificate", "rotate")
        pending = PendingIdentity.load(folder)
        identity = pending.accepted(bundle)
        _save_new(data, identity)
        pending.discard(folder)
    say(f"a certificate of the mesh {identity.mesh_tag}: {_told(identity.permissions)}")


@app.command(rich_help_panel=MESH)
def invite(
    data: Data = DATA,
    authority: _AuthorityFolder = _AUTHORITY,
    uses: Annotated[int, typer.Option(min=1, help="How many machines may join by it.")] = 1,
    expires: Annotated[str, typer.Option(help="How long: 30m, 2h, 7d.")] = "1h",
    read: _Read = None,
    write: _Write = None,
    phext: _Phexts = None,
    days: _Days = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address", help="Where this node is reached.", show_default="where it listens"
        ),
    ] = None,
) -> None:
    """Print a code by which machines join an administered mesh, while this node runs."""
    folder = existing_folder(data)
    identity = NodeIdentity.load(folder)
    if identity.mesh_key is not None:
        fail("this mesh has one key for all: `phextsync code` prints the code by which others join")
    _check_administers(Authority.load(authority.expanduser()), identity)
    permissions = _permissions(read, write, phext)
    now_s, secret = time.time(), os.urandom(invitation.SECRET_BYTES)
    invitations = Invitations(folder)
    lasts_s = read_duration_s(expires)
    if lasts_s is None or not 0 < lasts_s <= _EXPIRES_MAX_S:
        fail(f"expected a time such as 30m, 2h or 7d, up to 365d, found {expires!r:.40}")
    port, open_ = invitations.read(now_s)
    if not open_:
        port = _free_port()
    bundle = identity.bundles[0]
    pin = key_pin(bundle.certificate_der(), bundle.authority_der())
    hosts = [_host(each) for each in address] if address else _reached_at(folder)
    invited = InvitationCode(secret, pin, tuple(format_address(host, port) for host in hosts))
    row = Invitation(
        invitation.secret_digest(secret),
        uses,
        now_s + lasts_s,
        permissions.to_uris(),
        None if days is None else days * _DAY_S,
        str(authority.expanduser().absolute()),
    )
    invitations.add(row, port, now_s)
    if not _reload(folder):
        where = "" if address else f", and is to be reached at {' '.join(invited.addresses)}"
        warn(f"no node runs here: the code holds once `phextsync up` does{where}")
    say(invited.to_text())


# -- who is here ---------------------------------------------------------------------------


@app.command(rich_help_panel=MESH)
def mesh(data: Data = DATA, as_json: Json = False) -> None:
    """Show the mesh, this node's certificate, and the peers that it knows."""
    folder = existing_folder(data)
    identity = NodeIdentity.load(folder)
    known = KnownPeers.load(folder)
    if as_json:
        say_json(membership.describe(identity, known))
        return
    kind = "administered" if identity.mesh_key is None else "of one key, which every node holds"
    say(f"mesh {identity.mesh_tag}, {kind}")
    if identity.previous is not None:
        say(f"the mesh {identity.previous.mesh_tag} before it is accepted too")
    say(f"{identity.name} ({identity.node_id.hex()}) {_told(identity.permissions)}")
    first, last = identity.bundles[0].period
    say(f"its certificate is valid from {first:%Y-%m-%d} until {last:%Y-%m-%d %H:%M} UTC")
    _show_peers(known)


@peers_app.callback()
def peers(context: typer.Context, data: Data = DATA, as_json: Json = False) -> None:
    """Show the peers that this node knows, has blocked or has refused."""
    if context.invoked_subcommand is not None:
        refuse_unused(context, f"with {context.invoked_subcommand}", "as_json")
        return
    known = KnownPeers.load(existing_folder(data))
    if as_json:
        say_json(membership.rows(known))
    else:
        _show_peers(known)


@peers_app.command()
def block(who: _Who, data: Data = DATA) -> None:
    """Let a peer in no more: its link ends."""
    folder = _change_peers(data, "block", who, "is blocked on this node; others decide themselves")
    if NodeIdentity.load(folder).mesh_key is not None:
        say(
            "anybody who holds the mesh key can come back as another node: "
            "to remove a machine from the mesh, change the key with `phextsync rotate`"
        )


@peers_app.command()
def allow(who: _Who, data: Data = DATA) -> None:
    """Let a peer in that was blocked, or accept the new key under its name."""
    _change_peers(data, "allow", who, "is let in")


@peers_app.command()
def forget(who: _Who, data: Data = DATA) -> None:
    """Forget a peer: its name belongs to the next node that comes with it."""
    _change_peers(data, "forget", who, "is forgotten")


def _change_peers(data: Path, verb: str, who: str, told: str) -> Path:
    folder = existing_folder(data)
    known = KnownPeers.load(folder)
    before = {peer.node_id for peer in known.peers()}
    peer = membership.perform(known, verb, who)
    if not _reload(folder):  # a node that runs does it by itself
        remembered = RememberedPeers.load(folder / PEERS_FILE)
        for forgotten in before - {peer.node_id for peer in known.peers()}:
            remembered.overlook(forgotten)
        remembered.save_if_changed()
    say(f"{peer} {told}")
    return folder


# -- helpers -------------------------------------------------------------------------------


def _new_pending(name: str) -> PendingIdentity:
    return PendingIdentity.create(name or socket.gethostname(), os.urandom(32))


def _pending(folder: Path, name: str) -> PendingIdentity:
    """Return the one that waits for its certificate, which may be on its way; make one if none
    does, or one of another name."""
    with suppress(IdentityError):  # none waits, or it cannot be read any more
        pending = PendingIdentity.load(folder)
        if name in ("", pending.name):
            return pending
    pending = _new_pending(name)
    pending.save(folder)
    return pending


def _create(data: Path, key: MeshKey, name: str) -> None:
    _check_is_new(data)
    _save_new(data, NodeIdentity.create(key, name or socket.gethostname(), os.urandom(32)))


def _check_is_new(data: Path) -> None:
    """Refuse a folder that has an identity, before anything else is done."""
    folder = new_folder(data)
    if (folder / IDENTITY_FILE).exists():
        raise IdentityError(
            f"the identity of a node exists already in {folder}: `phextsync code` prints the code "
            "for other machines; for a second node name another folder with --data"
        )


def _save_new(data: Path, identity: NodeIdentity) -> None:
    folder = data.expanduser()
    identity.save(folder)
    say(f"{identity.name} ({identity.node_id.hex()[:8]}) lives in {folder}")


def _replace(folder: Path, identity: NodeIdentity) -> None:
    identity.save(folder, replace=True)
    _reload(folder)


def _host(text: str) -> str:
    """Return the host of an address at which a node is to be reached."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", text):
        return text
    host = text[1:-1] if text[:1] + text[-1:] == "[]" else text
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        fail(
            "expected a host such as anna.local or 192.0.2.7 after --address, without a port: the "
            f"code has one; found {text!r:.60}"
        )
    return host


def _reached_at(folder: Path) -> list[str]:
    """Return where others reach the node that runs on the folder; of one that does not run, all
    addresses of this machine."""
    host = None
    with suppress(*ABSENT), Attachment(folder) as attachment:
        host = operations.STATUS.ask(attachment).host
    return [found for found in reached_at(host) if "%" not in found][:_ADDRESSES_MAX]


def _reload(folder: Path) -> bool:
    """Have the node that runs on the folder, if one does, read its files again."""
    try:
        with Attachment(folder) as attachment:
            operations.RELOAD.ask(attachment)
    except ABSENT:
        return False
    return True


def _check_administers(issuer: Authority, identity: NodeIdentity) -> None:
    if issuer.certificate != identity.authority:
        fail(f"expected the authority of mesh {identity.mesh_tag}, found that of {issuer.mesh_tag}")


def _permissions(
    read: list[str] | None, write: list[str] | None, phexts: list[str] | None
) -> Permissions:
    if not read and not write:
        if phexts:
            fail("--phext needs --read or --write: expected a range that may be read or written")
        return UNRESTRICTED
    names = [checked_name(each) for each in phexts] if phexts else [EVERY_PHEXT]
    granted = [
        {name: [CoordinateRange.parse(text) for text in texts or ()] for name in names}
        for texts in (read, write)
    ]
    return Permissions.of(*granted)


def _told(permissions: Permissions) -> str:
    """Say for people what a certificate allows."""
    if permissions.is_everything:
        return "may read and write everything"
    told = []
    for verb, grant in (("read", permissions.read), ("write", permissions.write)):
        places = [
            f"{' '.join(map(str, ranges))} in {phext or 'every phext'}"
            for phext, ranges in grant.items()
            if ranges
        ]
        told.append(f"{verb} {', '.join(places) or 'nothing'}")
    return f"may {' and '.join(told)}"


def _show_peers(known: KnownPeers) -> None:
    rows = [(peer.name, peer.node_id.hex(), peer.state) for peer in known.peers()]
    if not rows:
        warn("no peers are known yet")
        return
    say_columns([("peer", "id", "state"), *rows])


def _free_port() -> int:
    for port in (invitation.PORT, 0):
        try:
            with socket.create_server(("", port)) as server:
                return int(server.getsockname()[1])
        except OSError:
            continue
    fail("expected a free TCP port, found none")
