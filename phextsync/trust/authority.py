"""Who lets nodes in: the mesh key, the authority that follows from it, and what it issues.

A mesh-key mesh derives its certificate authority from one secret, so that every node issues its
own certificate. In an administered mesh the authority's key stays with its administrator.
Randomness and time are always arguments.
"""

import base64
import binascii
import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID

from phextsync.errors import IdentityError
from phextsync.trust.certificates import (
    SECRET_BYTES,
    certificate_builder,
    certificate_public_bytes,
    check_node_name,
    common_name,
    digest,
    from_pem,
    has_issued,
    key_pem,
    key_usage,
    mesh_tag_of,
    pem,
    private_key,
    public_bytes,
    read_request,
)
from phextsync.trust.codes import decode_code, encode_code
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from phextsync.trust.private_files import AUTHORITY_FILE, read_private, reading, save_private

JOIN_CODE_PREFIX: Final = "phextsync1-"
DAYS_MAX: Final = 36_500
"""How long a certificate may hold that does not hold for ever."""

_JOIN_CODE_CHARACTERS: Final = 56
_MESH_KEY_BEGIN: Final = "-----BEGIN PHEXTSYNC MESH KEY-----"
_MESH_KEY_END: Final = "-----END PHEXTSYNC MESH KEY-----"
_CLOCK_SLACK: Final = datetime.timedelta(days=1)  # how far clocks may be behind the issuer's


@dataclass(frozen=True, slots=True)
class MeshKey:
    """The one secret of a mesh: anybody who has it may enter. `repr` does not show it."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise IdentityError(
                f"a mesh key has {SECRET_BYTES} bytes, found {len(self.secret)} bytes"
            )

    @classmethod
    def generate(cls, random_bytes: bytes) -> Self:
        """Return the mesh key made of 32 bytes from a cryptographic source."""
        return cls(random_bytes)

    @classmethod
    def from_join_code(cls, text: str) -> Self:
        """Read a join code; letter case, spaces and hyphens do not matter."""
        return cls(decode_code(JOIN_CODE_PREFIX, text, _JOIN_CODE_CHARACTERS))

    def join_code(self) -> str:
        """Return the key as one line for the next machine; a secret like the key itself."""
        return encode_code(JOIN_CODE_PREFIX, self.secret)


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority of a mesh with its private key."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: x509.Certificate

    @classmethod
    def from_mesh_key(cls, mesh_key: MeshKey) -> Self:
        """Derive the authority; its certificate is the same, byte for byte, on every machine."""
        seed = HKDF(
            algorithm=hashes.SHA256(), length=32, salt=None, info=b"phextsync authority 1"
        ).derive(mesh_key.secret)
        return cls.generate(seed)

    @classmethod
    def generate(cls, random_bytes: bytes) -> Self:
        """Return the authority whose key is 32 bytes from a cryptographic source."""
        key = private_key(random_bytes, "an authority's key")
        public_key = key.public_key()
        name = common_name(f"phextsync mesh {mesh_tag_of(public_key)}")
        certificate = (
            certificate_builder(subject=name, issuer=name, public_key=public_key, serial=1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
            .sign(key, algorithm=None)
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the authority kept in `folder`; refuse one that others may read."""
        path = folder / AUTHORITY_FILE
        data = read_private(path)
        with reading(path):
            key, certificates = from_pem(data)
            if len(certificates) != 1:
                raise IdentityError(f"expected 1 certificate, found {len(certificates)}")
            if public_bytes(key.public_key()) != certificate_public_bytes(certificates[0]):
                raise IdentityError("the key is not that of the certificate")
            return cls(key, certificates[0])

    def save(self, folder: Path) -> None:
        """Write the authority into `folder`, which has none yet, as a file of mode 0600."""
        path = folder / AUTHORITY_FILE
        if path.exists():
            raise IdentityError(f"{path} exists already: expected a folder without an authority")
        save_private(path, key_pem(self.key) + pem(self.certificate))

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return mesh_tag_of(self.certificate.public_key())

    def issue(
        self,
        public_key: Ed25519PublicKey,
        name: str,
        permissions: Permissions = UNRESTRICTED,
        validity: tuple[datetime.datetime, datetime.datetime] | None = None,
    ) -> x509.Certificate:
        """Return the certificate of a node, by default for everything and for ever; the same for
        the same arguments."""
        check_node_name(name)
        grants = permissions.to_uris()
        period = "" if validity is None else f"{validity[0]:%Y%m%d%H%M%S}{validity[1]:%Y%m%d%H%M%S}"
        told = "".join((name, *grants, period)).encode()
        # Positive and at most 20 octets: RFC 5280, section 4.1.2.2.
        serial = int.from_bytes(b"\1" + digest(public_bytes(public_key) + told, 16))
        usages = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = (
            certificate_builder(
                subject=common_name(name),
                issuer=self.certificate.subject,
                public_key=public_key,
                serial=serial,
                validity=validity,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(usages, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier(
                    digest(public_bytes(self.key.public_key()), 20), None, None
                ),
                critical=False,
            )
        )
        if grants:
            names = [x509.UniformResourceIdentifier(uri) for uri in grants]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, algorithm=None)

    def answer(
        self, request: bytes, permissions: Permissions, *, now_s: float, valid_s: float | None
    ) -> "Bundle":
        """Issue what a request (PKCS#10, PEM) asks for, valid for some seconds or for ever.
        IdentityError for no request, and for a time that is none or over a hundred years."""
        name, public_key = read_request(request)
        validity = None
        if valid_s is not None:
            if not 0 < valid_s <= DAYS_MAX * 86400:
                raise IdentityError(f"expected a time up to a hundred years, found {valid_s:g} s")
            now = datetime.datetime.fromtimestamp(int(now_s), datetime.UTC)
            validity = (now - _CLOCK_SLACK, now + datetime.timedelta(seconds=valid_s))
        certificate = self.issue(public_key, name, permissions, validity)
        return Bundle(certificate, self.certificate)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a node gets from its administrator: its certificate and that of the authority."""

    certificate: x509.Certificate
    authority: x509.Certificate

    @classmethod
    def from_pem(cls, data: bytes) -> Self:
        """Read two certificates; IdentityError for anything else."""
        try:
            certificates = x509.load_pem_x509_certificates(data)
        except ValueError as error:
            raise IdentityError(
                "expected a bundle of certificates, found something else"
            ) from error
        if len(certificates) != 2:
            raise IdentityError(f"expected a bundle of 2 certificates, found {len(certificates)}")
        return cls(certificates[0], certificates[1])

    def to_pem(self) -> bytes:
        """Return what `from_pem` reads; not a secret."""
        return pem(self.certificate) + pem(self.authority)

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return mesh_tag_of(self.authority.public_key())

    @property
    def period(self) -> tuple[datetime.datetime, datetime.datetime]:
        """From when and until when the certificate is valid."""
        return self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc

    def certificate_der(self) -> bytes:
        """The node's certificate as it is shown on a link."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def authority_der(self) -> bytes:
        """The authority's certificate as `ssl` wants it for `cadata`."""
        return self.authority.public_bytes(serialization.Encoding.DER)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether the authority has signed the certificate."""
        return has_issued(self.authority, certificate)


def mesh_key_pem(mesh_key: MeshKey) -> bytes:
    """Return what `mesh_key_from_pem` reads."""
    body = base64.b64encode(mesh_key.secret).decode("ascii")
    return f"{_MESH_KEY_BEGIN}\n{body}\n{_MESH_KEY_END}\n".encode("ascii")


def mesh_key_from_pem(data: bytes) -> MeshKey | None:
    text = data.decode("ascii", "replace")
    _, begin, rest = text.partition(_MESH_KEY_BEGIN)
    if not begin:
        return None
    body, end, _ = rest.partition(_MESH_KEY_END)
    try:
        secret = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error as error:
        raise IdentityError("expected a mesh key in base64, found another text") from error
    if not end:
        raise IdentityError("the mesh key has no end line")
    return MeshKey(secret)
