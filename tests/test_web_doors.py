"""The web server as `phextsync up` opens it: with TLS, and what is said of wrong options."""

import datetime
import ipaddress
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from phextsync.addresses import reached_at
from phextsync.cli.doors import reached
from phextsync.discovery import Address
from phextsync.errors import LinkError
from phextsync.web.limits import WebLimits
from phextsync.web.server import tls_of
from tests.command_users import CommandUser
from tests.web_nodes import HOST, PATIENCE_S, make_identity, web_node


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2120, 1, 1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


@pytest.mark.real
async def test_it_is_served_by_tls_with_a_cookie_that_nothing_else_gets(tmp_path: Path) -> None:
    make_identity(tmp_path / "node")
    cert, key = _certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    async with web_node(tmp_path / "node", token="secret", tls=tls_of(cert, key)) as (_, port):
        asked = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\ntoken=secret"
        async with await trio.open_ssl_over_tcp_stream(
            HOST, port, ssl_context=trusting, https_compatible=True
        ) as stream:
            await stream.send_all(asked.encode())
            answer = (await stream.receive_some()).decode()
            cookie = answer.partition("set-cookie: ")[2].partition("\r\n")[0]
            assert cookie.startswith("__Host-phextsync=")
            assert cookie.endswith("; Secure")
            await stream.send_all(
                f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie.partition(';')[0]}\r\n\r\n".encode()
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        async with await trio.open_tcp_stream(HOST, port) as clear:
            await clear.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not b"".join([bytes(piece) async for piece in clear]).startswith(b"HTTP")


@pytest.mark.real
async def test_where_there_is_no_room_a_client_of_tls_is_told_among_many_that_say_nothing(
    tmp_path: Path,
) -> None:
    make_identity(tmp_path / "node")
    cert, key = _certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    full = WebLimits(connections_max=0, handshake_s=10 * PATIENCE_S)
    async with (
        web_node(tmp_path / "node", tls=tls_of(cert, key), limits=full) as (_, port),
        AsyncExitStack() as opened,
    ):
        silent = [
            await opened.enter_async_context(await trio.open_tcp_stream(HOST, port))
            for _ in range(40)
        ]
        async with await trio.open_ssl_over_tcp_stream(
            HOST, port, ssl_context=trusting, https_compatible=True
        ) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1 << 20))
            answer = b"".join([bytes(piece) async for piece in stream])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in answer.lower()
        assert await silent[0].receive_some() == b""  # it made room


def test_a_certificate_that_cannot_be_used_is_one_error(tmp_path: Path) -> None:
    cert, _ = _certificate(tmp_path)
    for key in (tmp_path / "none.pem", cert):
        with pytest.raises(LinkError, match="expected a certificate and its key"):
            tls_of(cert, key)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--web", "127.0.0.1", "--web-cert", "cert.pem"], "--web-cert and --web-key together"),
        (["--web-cert", "cert.pem", "--web-key", "key.pem"], "with --web"),
        (["--web", "0.0.0.0"], "expected a loopback address for HTTP without a token"),
        (["--hook", "http://localhost/"], "expected a secret to sign posts to hooks"),
    ],
)
def test_what_up_cannot_serve_is_one_line(options: list[str], told: str, tmp_path: Path) -> None:
    person = CommandUser(tmp_path / "data")
    person.out("init")
    error = person.error("up", "--no-mdns", "--host", HOST, "--port", "0", *options)
    assert told in error
    assert "\n" not in error.strip()


def test_what_is_served_on_all_addresses_is_shown_by_one_that_can_be_asked() -> None:
    for everywhere in ("0.0.0.0", "::"):
        assert reached(Address(everywhere, 80)) == Address(reached_at(everywhere)[0], 80)
    for host in ("127.0.0.1", "desk.lan", "192.0.2.1"):
        assert reached(Address(host, 80)) == Address(host, 80)
