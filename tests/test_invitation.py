"""New machines get a certificate for an invitation, as often and as long as it says."""

import logging
import os
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
import trio
import trio.testing

from phextsync.boundaries import Boundary
from phextsync.errors import IdentityError, LinkError, StoreDamagedError
from phextsync.framing import FrameChannel
from phextsync.index import CoordinateRange
from phextsync.node import invitations
from phextsync.node.invitations import (
    INVITATIONS_FILE,
    Invitation,
    InvitationCode,
    Invitations,
    redeem,
    secret_digest,
    serving,
)
from phextsync.sockets import TlsStream
from phextsync.transport import LINES_MAX, LINES_S, exchange_context
from phextsync.trust.authority import Authority
from phextsync.trust.certificates import certificate_permissions, key_pin
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from sims.ports import free_port
from sims.processes import PATIENCE_S

_LOOPBACK = "127.0.0.1"
_SECRET = bytes(range(16))
_READ_ONLY = Permissions.of({"memory": [CoordinateRange.parse("2.*")]}, {})


def _invitation(authority: Path, **changes: object) -> Invitation:
    row = Invitation(secret_digest(_SECRET), 1, None, [], None, str(authority))
    return replace(row, **changes)  # type: ignore[arg-type]


def _pending(name: str = "new") -> PendingIdentity:
    return PendingIdentity.create(name, os.urandom(32))


def _administrator(folder: Path) -> NodeIdentity:
    """Make an authority in `folder` and return the identity of its administrator's node."""
    authority = Authority.generate(os.urandom(32))
    authority.save(folder)
    pending = _pending("administrator")
    return pending.accepted(
        authority.answer(pending.request(), UNRESTRICTED, now_s=0, valid_s=None)
    )


def _code(identity: NodeIdentity, port: int, secret: bytes = _SECRET) -> InvitationCode:
    bundle = identity.bundles[0]
    pin = key_pin(bundle.certificate_der(), bundle.authority_der())
    return InvitationCode(secret, pin, (f"{_LOOPBACK}:{port}",))


@asynccontextmanager
async def _serving(folder: Path, identity: NodeIdentity, now_s: float = 0.0) -> AsyncIterator[int]:
    """Redeem the folder's invitations on loopback; yield the port."""
    port = free_port()
    boundary = Boundary(logging.getLogger())
    opened = Invitations(folder)
    async with serving(opened, identity, _LOOPBACK, port, boundary, wall_time_s=lambda: now_s):
        yield port


# -- codes and the file --------------------------------------------------------------------


def test_a_code_survives_being_retyped_and_holds_what_it_was_made_of() -> None:
    code = InvitationCode(_SECRET, bytes(16), ("10.0.0.1:7440", "[fe80::1]:7440"))
    text = code.to_text()
    assert text.isprintable()
    assert " " not in text
    assert InvitationCode.from_text(f" {text.upper()}\n") == code
    assert _SECRET.hex() not in repr(code)
    with pytest.raises(IdentityError, match="mistyped"):
        InvitationCode.from_text(text[:-1] + ("0" if text[-1] != "0" else "1"))
    for wrong in ("", "phextsync1-abc", text[:-1], text[:30]):
        with pytest.raises(IdentityError):
            InvitationCode.from_text(wrong)


def test_an_invitation_is_used_as_often_and_as_long_as_it_says(tmp_path: Path) -> None:
    invitations = Invitations(tmp_path)
    invitations.add(_invitation(tmp_path, uses=2, until_s=100.0), 7000, 0)
    assert stat.S_IMODE((tmp_path / INVITATIONS_FILE).stat().st_mode) == 0o600
    assert _SECRET.hex() not in (tmp_path / INVITATIONS_FILE).read_text()
    with pytest.raises(IdentityError, match="expired or was used up"):
        invitations.take(bytes(16), 0)
    with pytest.raises(IdentityError, match="expired or was used up"):
        invitations.take(_SECRET, 100)
    assert invitations.take(_SECRET, 99).uses == 2
    assert Invitations(tmp_path).take(_SECRET, 99).uses == 1
    assert invitations.read(99) == (7000, [])
    with pytest.raises(IdentityError):
        invitations.take(_SECRET, 99)


def test_damaged_invitations_are_an_error(tmp_path: Path) -> None:
    (tmp_path / INVITATIONS_FILE).write_text('{"port": 1, "invitations": [{}]}')
    with pytest.raises(StoreDamagedError):
        Invitations(tmp_path).read(0)


# -- redeeming -----------------------------------------------------------------------------


@pytest.mark.real
async def test_a_machine_gets_the_certificate_that_the_invitation_names(tmp_path: Path) -> None:
    identity = _administrator(tmp_path)
    row = _invitation(tmp_path, uses=1, grants=_READ_ONLY.to_uris(), valid_s=3600.0)
    Invitations(tmp_path).add(row, 0, 0)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity, now_s=1000.0) as port:
            pending = _pending()
            bundle = await redeem(_code(identity, port), pending)
            got = pending.accepted(bundle)
            assert got.name == "new"
            assert got.authority == identity.authority
            assert certificate_permissions(bundle.certificate_der()) == _READ_ONLY
            assert bundle.period[1].timestamp() == 4600
            with pytest.raises(IdentityError, match="used up"):
                await redeem(_code(identity, port), _pending())


@pytest.mark.real
async def test_an_expired_or_wrong_secret_gets_nothing(tmp_path: Path) -> None:
    identity = _administrator(tmp_path)
    Invitations(tmp_path).add(_invitation(tmp_path, until_s=500.0), 0, 0)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity, now_s=501.0) as port:
            for secret in (_SECRET, bytes(16)):
                with pytest.raises(IdentityError, match="expired or was used up"):
                    await redeem(_code(identity, port, secret), _pending())


@pytest.mark.real
async def test_a_machine_says_its_secret_to_nobody_but_the_node_that_the_code_names(
    tmp_path: Path,
) -> None:
    identity = _administrator(tmp_path)
    other = _pending("member")
    bundle = Authority.load(tmp_path).answer(other.request(), UNRESTRICTED, now_s=0, valid_s=None)
    member = other.accepted(bundle)
    Invitations(tmp_path).add(_invitation(tmp_path), 0, 0)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, member) as port:
            with pytest.raises(LinkError, match="found others"):
                await redeem(_code(identity, port), _pending())
    assert len(Invitations(tmp_path).read(0)[1]) == 1


@pytest.mark.real
async def test_nonsense_at_the_door_harms_nobody(tmp_path: Path) -> None:
    identity = _administrator(tmp_path)
    Invitations(tmp_path).add(_invitation(tmp_path), 0, 0)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity) as port:
            plain = await trio.open_tcp_stream(_LOOPBACK, port)
            await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
            silent = await trio.open_tcp_stream(_LOOPBACK, port)
            for said in (b"", b"\x80", cbor2.dumps([1, 2]), cbor2.dumps([_SECRET, b"no request"])):
                stream = await trio.open_tcp_stream(_LOOPBACK, port)
                tls = TlsStream(stream, exchange_context(None), server_side=False)
                await tls.do_handshake()
                async with FrameChannel(tls) as channel:
                    await channel.receive()
                    await channel.send(said)
                    with pytest.raises((trio.EndOfChannel, LinkError, AssertionError)):
                        assert cbor2.loads(await channel.receive())[0] == "ok"
            await redeem(_code(identity, port), _pending())
            await plain.aclose()
            await silent.aclose()


@pytest.mark.real
async def test_strangers_that_say_nothing_keep_no_machine_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "_STRANGERS_MAX", 2)
    monkeypatch.setattr(invitations, "_PATIENCE_S", 10 * PATIENCE_S)
    identity = _administrator(tmp_path)
    Invitations(tmp_path).add(_invitation(tmp_path), 0, 0)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity) as port, AsyncExitStack() as stack:
            silent = []
            for _ in range(3):
                stream = await trio.open_tcp_stream(_LOOPBACK, port)
                silent.append(await stack.enter_async_context(stream))
                await trio.testing.wait_all_tasks_blocked()
            assert await silent[0].receive_some() == b""
            await redeem(_code(identity, port), _pending())


@pytest.mark.real
async def test_strangers_fill_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    identity = _administrator(tmp_path)
    began = trio.current_time()
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity) as port:
            for _ in range(2 * (LINES_MAX + 2)):
                async with await trio.open_tcp_stream(_LOOPBACK, port) as stream:
                    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                    with suppress(trio.BrokenResourceError):
                        while await stream.receive_some():
                            pass
            for _ in range(2 * (LINES_MAX + 2)):
                with pytest.raises(IdentityError, match="expired or was used up"):
                    await redeem(_code(identity, port), _pending())
    whiles = 2 + (trio.current_time() - began) // LINES_S
    assert 0 < len(caplog.records) <= whiles * (LINES_MAX + 1)


@pytest.mark.parametrize("is_node", [True, False])
def test_neither_side_of_an_invitation_speaks_older_tls(tmp_path: Path, is_node: bool) -> None:
    context = exchange_context(_administrator(tmp_path) if is_node else None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.real
async def test_no_address_of_a_code_that_answers_is_an_error_that_names_them(
    tmp_path: Path,
) -> None:
    identity = _administrator(tmp_path)
    async with _serving(tmp_path, identity) as port:
        pass
    with pytest.raises(LinkError, match=f"127.0.0.1:{port}"):
        await redeem(_code(identity, port), _pending())


@pytest.mark.real
async def test_a_certificate_of_another_authority_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, other = _administrator(tmp_path / "one"), Authority.generate(os.urandom(32))

    def answer(_: object, request: list[bytes], *__: object) -> bytes:
        bundle = other.answer(request[1], UNRESTRICTED, now_s=0, valid_s=None)
        return cbor2.dumps(["ok", bundle.to_pem()])

    monkeypatch.setattr(invitations, "_answer", answer)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity) as port:
            with pytest.raises(LinkError, match="of the authority that the code names"):
                await redeem(_code(identity, port), _pending())


@pytest.mark.real
async def test_what_an_administrator_answers_is_a_line_with_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = _administrator(tmp_path)
    told = cbor2.dumps(["error", "\x1b[2J\n" * 2000])
    monkeypatch.setattr(invitations, "_answer", lambda *_: told)
    with trio.fail_after(PATIENCE_S):
        async with _serving(tmp_path, identity) as port:
            with pytest.raises(IdentityError) as refused:
                await redeem(_code(identity, port), _pending())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1200


@pytest.mark.real
async def test_a_stranger_that_says_nothing_is_left_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = _administrator(tmp_path)
    monkeypatch.setattr(invitations, "_PATIENCE_S", 0.1)
    with trio.fail_after(PATIENCE_S):
        async with (
            _serving(tmp_path, identity) as port,
            await trio.open_tcp_stream(_LOOPBACK, port) as silent,
        ):
            assert await silent.receive_some() == b""
