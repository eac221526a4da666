"""Who is who: the mesh key, the authority that follows from it, and the identity of a node.

A mesh-key mesh derives its certificate authority from one secret, so that every node issues its
own certificate. In an administered mesh the authority's key stays with its administrator and a
node holds certificates only: then `NodeIdentity.mesh_key` is None and all else is the same.

While a mesh changes its authority a node has two certificates for its one key. A link is under
one authority: the newer one if both sides have it.

What a certificate allows stands in it as subject alternative names, URIs as `permissions` reads
them; one without any allows everything.

Key files are read and written here and nowhere else. Randomness and time are always arguments.
"""

import base64
import binascii
import datetime
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phextsync.durable_files import write_whole
from phextsync.errors import IdentityError
from phextsync.trust.permissions import UNRESTRICTED, Permissions

SECRET_BYTES: Final = 32
NODE_ID_BYTES: Final = 16
NAME_BYTES_MAX: Final = 64  # RFC 5280, appendix A: ub-common-name
IDENTITY_FILE: Final = "identity.pem"
AUTHORITY_FILE: Final = "authority.pem"
PENDING_FILE: Final = "request.pem"
JOIN_CODE_PREFIX: Final = "phextsync1-"
CHECKSUM_BYTES: Final = 3  # 32 + 3 bytes are exactly 56 characters of base 32
PIN_BYTES: Final = 16

_JOIN_CODE_CHARACTERS: Final = 56
_JOIN_CODE_GROUP: Final = 7
_FILE_BYTES_MAX: Final = 64 << 10
_MESH_KEY_BEGIN: Final = "-----BEGIN PHEXTSYNC MESH KEY-----"
_MESH_KEY_END: Final = "-----END PHEXTSYNC MESH KEY-----"

# Crockford's base 32: no I, L, O, U, so that a code survives being read aloud or retyped.
_RFC4648_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TO_CROCKFORD: Final = str.maketrans(_RFC4648_ALPHABET, _CROCKFORD_ALPHABET)
_FROM_CROCKFORD: Final = str.maketrans(_CROCKFORD_ALPHABET, _RFC4648_ALPHABET)
_LOOKALIKES: Final = str.maketrans("ilo", "110")

# A machine whose clock is dead or wrong must still reach its mesh.
_VALID_FROM: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_VALID_UNTIL: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_CLOCK_SLACK: Final = datetime.timedelta(days=1)  # how far clocks may be behind the issuer's


@dataclass(frozen=True, slots=True)
class MeshKey:
    """The one secret of a mesh: whoever holds it may enter. `repr` does not show it."""

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
        key = _private_key(random_bytes, "an authority's key")
        public_key = key.public_key()
        name = _common_name(f"phextsync mesh {_mesh_tag(public_key)}")
        certificate = (
            _certificate_builder(subject=name, issuer=name, public_key=public_key, serial=1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, algorithm=None)
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the authority kept in `folder`; refuse one that others may read."""
        key, certificates = _from_pem(_read_private(folder / AUTHORITY_FILE), AUTHORITY_FILE)
        if len(certificates) != 1:
            raise IdentityError(
                f"expected 1 certificate in {AUTHORITY_FILE}, found {len(certificates)}"
            )
        if _public_bytes(key.public_key()) != _certificate_public_bytes(certificates[0]):
            raise IdentityError(f"the key in {AUTHORITY_FILE} is not that of its certificate")
        return cls(key, certificates[0])

    def save(self, folder: Path) -> None:
        """Write the authority into `folder`, which has none yet, as a file of mode 0600."""
        path = folder / AUTHORITY_FILE
        if path.exists():
            raise IdentityError(f"{path} exists already: expected a folder without an authority")
        save_private(path, _key_pem(self.key) + _pem(self.certificate))

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return _mesh_tag(self.certificate.public_key())

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
        serial = int.from_bytes(b"\1" + _digest(_public_bytes(public_key) + told, 16))
        usages = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = (
            _certificate_builder(
                subject=_common_name(name),
                issuer=self.certificate.subject,
                public_key=public_key,
                serial=serial,
                validity=validity,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(usages, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier(
                    _digest(_public_bytes(self.key.public_key()), 20), None, None
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
        """Issue what a request (PKCS#10, PEM) asks for, valid for some seconds or for ever."""
        name, public_key = read_request(request)
        validity = None
        if valid_s is not None:
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
                f"expected a bundle of certificates, found none: {error}"
            ) from error
        if len(certificates) != 2:
            raise IdentityError(f"expected a bundle of 2 certificates, found {len(certificates)}")
        return cls(certificates[0], certificates[1])

    def to_pem(self) -> bytes:
        """Return what `from_pem` reads; not a secret."""
        return _pem(self.certificate) + _pem(self.authority)

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return _mesh_tag(self.authority.public_key())

    @property
    def period(self) -> tuple[datetime.datetime, datetime.datetime]:
        """When the certificate begins and ceases to be valid."""
        return self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc

    def certificate_der(self) -> bytes:
        """The node's certificate as it is shown on a link."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def authority_der(self) -> bytes:
        """The authority's certificate as `ssl` wants it for `cadata`."""
        return self.authority.public_bytes(serialization.Encoding.DER)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether the authority has signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.authority)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's own key, its certificate, the mesh's authority, and the mesh key if it is shared."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: x509.Certificate
    authority: x509.Certificate
    mesh_key: MeshKey | None = None
    previous: Bundle | None = None
    """What it was before the mesh changed its authority, until that is finished."""

    def __post_init__(self) -> None:
        for bundle in self.bundles:
            if _public_bytes(self.key.public_key()) != _certificate_public_bytes(
                bundle.certificate
            ):
                raise IdentityError("the node key does not belong to the node certificate")
            if not bundle.has_issued(bundle.certificate):
                raise IdentityError("the node certificate was not issued by the mesh's authority")
        if self.mesh_key is not None:
            derived = Authority.from_mesh_key(self.mesh_key).certificate
            if derived != self.authority:
                raise IdentityError("the mesh key does not belong to the mesh's authority")

    @classmethod
    def create(cls, mesh_key: MeshKey, name: str, random_bytes: bytes) -> Self:
        """Return a new identity whose node key is 32 bytes from a cryptographic source."""
        key = _private_key(random_bytes, "a node key")
        authority = Authority.from_mesh_key(mesh_key)
        return cls(key, authority.issue(key.public_key(), name), authority.certificate, mesh_key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the identity kept in `folder`; refuse one that others on this machine may read."""
        data = _read_private(folder / IDENTITY_FILE)
        key, certificates = _from_pem(data, IDENTITY_FILE)
        if len(certificates) not in (2, 4):
            raise IdentityError(
                f"expected 2 certificates in {IDENTITY_FILE}, found {len(certificates)}"
            )
        previous = Bundle(*certificates[2:]) if len(certificates) == 4 else None
        return cls(key, certificates[0], certificates[1], _mesh_key_from_pem(data), previous)

    def save(self, folder: Path, *, replace: bool = False) -> None:
        """Write the identity into `folder`, whole or not at all, as a file of mode 0600."""
        path = folder / IDENTITY_FILE
        if not replace and path.exists():
            raise IdentityError(f"{path} exists already: expected a folder without an identity")
        # The mesh key comes first, so that no truncated file passes for an administered mesh.
        text = b""
        if self.mesh_key is not None:
            body = base64.b64encode(self.mesh_key.secret).decode("ascii")
            text = f"{_MESH_KEY_BEGIN}\n{body}\n{_MESH_KEY_END}\n".encode("ascii")
        text += _key_pem(self.key) + b"".join(bundle.to_pem() for bundle in self.bundles)
        save_private(path, text)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The certificates of this node with their authorities, the newest first."""
        current = Bundle(self.certificate, self.authority)
        return (current,) if self.previous is None else (current, self.previous)

    def rotated(self, mesh_key: MeshKey) -> "NodeIdentity":
        """Return this node in the mesh of another key; the present one stays valid beside it."""
        if self.mesh_key is None:
            raise IdentityError("expected a node that holds the mesh key: ask the administrator")
        if mesh_key == self.mesh_key:
            return self
        authority = Authority.from_mesh_key(mesh_key)
        certificate = authority.issue(self.key.public_key(), self.name)
        return NodeIdentity(
            self.key, certificate, authority.certificate, mesh_key, self._replaced()
        )

    def accepted(self, bundle: Bundle, *, rotates: bool = False) -> "NodeIdentity":
        """Return this node with a new certificate, of another authority only if it `rotates`."""
        if bundle.authority == self.authority:
            return NodeIdentity(
                self.key, bundle.certificate, self.authority, self.mesh_key, self.previous
            )
        if not rotates:
            raise IdentityError(
                f"expected a certificate of the mesh {self.mesh_tag}, found one of "
                f"{bundle.mesh_tag}: --rotate changes the mesh's authority"
            )
        return NodeIdentity(self.key, bundle.certificate, bundle.authority, None, self._replaced())

    def finished(self) -> "NodeIdentity":
        """Return this node without what it was before the authority changed."""
        if self.previous is None:
            raise IdentityError("expected a change of the mesh's key under way, found none")
        return NodeIdentity(self.key, self.certificate, self.authority, self.mesh_key)

    def _replaced(self) -> Bundle:
        if self.previous is not None:
            raise IdentityError(
                "expected no change of the mesh's key under way, found one: "
                "end it with `phextsync rotate --finish`"
            )
        return Bundle(self.certificate, self.authority)

    def recognises(self, der: bytes) -> bool:
        """Whether a peer's certificate is of this mesh, as it is or as it was before."""
        certificate = _load_der(der)
        return any(bundle.has_issued(certificate) for bundle in self.bundles)

    def request(self) -> bytes:
        """Return a request for a new certificate for the same key and name (PKCS#10, PEM)."""
        return _request(self.key, self.name)

    @property
    def node_id(self) -> bytes:
        """16 bytes: the BLAKE2b digest of the node key's SubjectPublicKeyInfo."""
        return _digest(_public_bytes(self.key.public_key()), NODE_ID_BYTES)

    @property
    def name(self) -> str:
        """The node's name, as its certificate has it."""
        return _subject_name(self.certificate)

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return _mesh_tag(self.authority.public_key())

    @property
    def permissions(self) -> Permissions:
        """What the node's certificate allows."""
        return _permissions(self.certificate)

    def certificate_chain_pem(self, bundle: Bundle) -> bytes:
        """The node's private key and a certificate as `ssl` wants them in one file."""
        return _key_pem(self.key) + _pem(bundle.certificate)


class PendingIdentity:
    """A node that has asked for a certificate: its key, in a file until the answer comes."""

    def __init__(self, key: Ed25519PrivateKey, name: str) -> None:
        check_node_name(name)
        self._key = key
        self._name = name

    @classmethod
    def create(cls, name: str, random_bytes: bytes) -> Self:
        """Return one whose node key is 32 bytes from a cryptographic source."""
        return cls(_private_key(random_bytes, "a node key"), name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        data = _read_private(folder / PENDING_FILE)
        key, _ = _from_pem(data, PENDING_FILE)
        return cls(key, read_request(data)[0])

    def save(self, folder: Path) -> None:
        """Write the key and the request into `folder` as a file of mode 0600."""
        save_private(folder / PENDING_FILE, _key_pem(self._key) + self.request())

    def request(self) -> bytes:
        """Return the request for a certificate (PKCS#10, PEM)."""
        return _request(self._key, self._name)

    def accepted(self, bundle: Bundle) -> NodeIdentity:
        """Return the identity that the answer makes of it."""
        return NodeIdentity(self._key, bundle.certificate, bundle.authority)

    def discard(self, folder: Path) -> None:
        """Delete the file: the identity has the key now."""
        (folder / PENDING_FILE).unlink(missing_ok=True)


def read_request(data: bytes) -> tuple[str, Ed25519PublicKey]:
    """Return name and key of a request (PKCS#10, PEM) that its key has signed."""
    try:
        request = x509.load_pem_x509_csr(data)
    except ValueError as error:
        raise IdentityError(f"expected a request for a certificate, found none: {error}") from error
    public_key = request.public_key()
    if not isinstance(public_key, Ed25519PublicKey) or not request.is_signature_valid:
        raise IdentityError("expected a request that its Ed25519 key has signed, found another")
    return _only_name(request.subject), public_key


def certificate_permissions(der: bytes) -> Permissions:
    """Return what a certificate allows; IdentityError when a grant cannot be read."""
    return _permissions(_load_der(der))


def key_pin(certificate: bytes, authority: bytes) -> bytes:
    """Return the digest of the keys of a node and of the authority that issued its certificate;
    IdentityError when it did not."""
    node, issuer = _load_der(certificate), _load_der(authority)
    if not Bundle(node, issuer).has_issued(node):
        raise IdentityError("the node certificate was not issued by the mesh's authority")
    keys = _certificate_public_bytes(node) + _certificate_public_bytes(issuer)
    return _digest(keys, PIN_BYTES)


def certificate_end_s(der: bytes) -> float:
    """Return when a certificate ceases to be valid, in seconds since 1970."""
    return _load_der(der).not_valid_after_utc.timestamp()


def certificate_node_id(der: bytes) -> bytes:
    """Return the node id that a certificate stands for."""
    return _digest(_certificate_public_bytes(_load_der(der)), NODE_ID_BYTES)


def certificate_name(der: bytes) -> str:
    """Return the node name that a certificate stands for."""
    return _subject_name(_load_der(der))


def check_node_name(name: str) -> None:
    """Refuse a name that no certificate and no line of a log could carry unharmed."""
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES_MAX:
        raise IdentityError(
            f"a node name has 1 to {NAME_BYTES_MAX} bytes of UTF-8, found {name[:80]!r}"
        )
    if not name.isprintable() or name != name.strip():
        raise IdentityError(f"a node name is printable, without spaces at its ends, found {name!r}")


def encode_code(prefix: str, payload: bytes) -> str:
    """Return bytes and their checksum, a multiple of 5 together, as one line to be retyped."""
    encoded = base64.b32encode(payload + _checksum(payload))
    digits = encoded.decode("ascii").translate(_TO_CROCKFORD)
    groups = (
        digits[start : start + _JOIN_CODE_GROUP]
        for start in range(0, len(digits), _JOIN_CODE_GROUP)
    )
    return prefix + "-".join(groups)


def decode_code(prefix: str, text: str, characters: int | None = None) -> bytes:
    """Read what `encode_code` wrote, of so many characters if that is known; letter case, spaces
    and hyphens do not matter."""
    compact = "".join(text.lower().split())
    if not compact.startswith(prefix):
        raise IdentityError(f"a join code begins with {prefix!r}, this one does not")
    digits = compact.removeprefix(prefix).replace("-", "").translate(_LOOKALIKES)
    for character in digits:
        if character not in _CROCKFORD_ALPHABET:
            raise IdentityError(f"{character!r} does not occur in a join code")
    if len(digits) % 8 or len(digits) != (characters or len(digits)):
        expected = characters or "a multiple of 8"
        raise IdentityError(
            f"a join code has {expected} letters and digits after {prefix!r}, found {len(digits)}"
        )
    payload = base64.b32decode(digits.translate(_FROM_CROCKFORD))
    content, checksum = payload[:-CHECKSUM_BYTES], payload[-CHECKSUM_BYTES:]
    if _checksum(content) != checksum:
        raise IdentityError("the join code's checksum does not match: a character is mistyped")
    return content


def save_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all, into a folder that is made if need be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise IdentityError(f"{path} cannot be written: {error}") from error


def _private_key(random_bytes: bytes, what: str) -> Ed25519PrivateKey:
    if len(random_bytes) != SECRET_BYTES:
        raise IdentityError(f"{what} has {SECRET_BYTES} bytes, found {len(random_bytes)} bytes")
    return Ed25519PrivateKey.from_private_bytes(random_bytes)


def _from_pem(data: bytes, file: str) -> tuple[Ed25519PrivateKey, list[x509.Certificate]]:
    """Read a key and the certificates behind it, if any."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
        has_certificates = b"-----BEGIN CERTIFICATE-----" in data
        certificates = x509.load_pem_x509_certificates(data) if has_certificates else []
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{file} does not hold a key and certificates: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"expected an Ed25519 key in {file}, found {type(key).__name__}")
    return key, certificates


def _key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _request(key: Ed25519PrivateKey, name: str) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(_common_name(name))
    return builder.sign(key, algorithm=None).public_bytes(serialization.Encoding.PEM)


def _permissions(certificate: x509.Certificate) -> Permissions:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return UNRESTRICTED
    except ValueError as error:
        raise IdentityError(f"expected a certificate that can be read: {error}") from error
    return Permissions.from_uris(names.get_values_for_type(x509.UniformResourceIdentifier))


def _digest(data: bytes, digest_bytes: int) -> bytes:
    return hashlib.blake2b(data, digest_size=digest_bytes).digest()


def _checksum(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=CHECKSUM_BYTES, person=b"phextsync join 1").digest()


def _mesh_tag(authority_key: object) -> str:
    if not isinstance(authority_key, Ed25519PublicKey):
        raise IdentityError(
            f"expected an Ed25519 key of the authority, found {type(authority_key).__name__}"
        )
    return _digest(_public_bytes(authority_key), 8).hex()


def _public_bytes(public_key: Ed25519PublicKey) -> bytes:
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _certificate_public_bytes(certificate: x509.Certificate) -> bytes:
    public_key = certificate.public_key()
    if not isinstance(public_key, Ed25519PublicKey):
        raise IdentityError(
            f"expected a certificate for an Ed25519 key, found {type(public_key).__name__}"
        )
    return _public_bytes(public_key)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _subject_name(certificate: x509.Certificate) -> str:
    return _only_name(certificate.subject)


def _only_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise IdentityError(f"expected one name in the certificate, found {len(names)}")
    check_node_name(names[0].value)
    return names[0].value


def _load_der(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise IdentityError(f"expected a certificate, found {len(der)} other bytes") from error


def _certificate_builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Ed25519PublicKey,
    serial: int,
    validity: tuple[datetime.datetime, datetime.datetime] | None = None,
) -> x509.CertificateBuilder:
    first, last = validity or (_VALID_FROM, _VALID_UNTIL)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(
            x509.SubjectKeyIdentifier(_digest(_public_bytes(public_key), 20)), critical=False
        )
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _mesh_key_from_pem(data: bytes) -> MeshKey | None:
    text = data.decode("ascii", "replace")
    _, begin, rest = text.partition(_MESH_KEY_BEGIN)
    if not begin:
        return None
    body, end, _ = rest.partition(_MESH_KEY_END)
    try:
        secret = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error as error:
        raise IdentityError(f"the mesh key in {IDENTITY_FILE} is damaged: {error}") from error
    if not end:
        raise IdentityError(f"the mesh key in {IDENTITY_FILE} has no end line")
    return MeshKey(secret)


_MADE_BY: Final = {
    IDENTITY_FILE: "`phextsync init` or `join`",
    AUTHORITY_FILE: "`phextsync init --administered`",
    PENDING_FILE: "`phextsync request`",
}


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        how = _MADE_BY[path.name]
        raise IdentityError(
            f"there is no {path.name} in {path.parent}: make it with {how}"
        ) from error
    except OSError as error:
        raise IdentityError(f"the identity cannot be read: {error}") from error
    if os.name == "posix" and mode & 0o077:
        raise IdentityError(f"{path} has mode {mode:04o}, expected 0600: others may have read it")
    if len(data) > _FILE_BYTES_MAX:
        raise IdentityError(f"{path} exceeds {_FILE_BYTES_MAX} bytes: expected an identity")
    return data
