"""Who is who: the mesh key, the authority that follows from it, and the identity of a node.

A mesh-key mesh derives its certificate authority from one secret, so that every node issues its
own certificate. In an administered mesh the authority's key stays with its administrator and a
node holds certificates only: then `NodeIdentity.mesh_key` is None and all else is the same.

Key files are read and written here and nowhere else. Randomness is always an argument.
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

from phextsync.errors import IdentityError

SECRET_BYTES: Final = 32
NODE_ID_BYTES: Final = 16
NAME_BYTES_MAX: Final = 64  # RFC 5280, appendix A: ub-common-name
IDENTITY_FILE: Final = "identity.pem"
JOIN_CODE_PREFIX: Final = "phextsync1-"

_CHECKSUM_BYTES: Final = 3  # 32 + 3 bytes are exactly 56 characters of base 32
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
        compact = "".join(text.lower().split())
        if not compact.startswith(JOIN_CODE_PREFIX):
            raise IdentityError(f"a join code begins with {JOIN_CODE_PREFIX!r}, this one does not")
        digits = compact.removeprefix(JOIN_CODE_PREFIX).replace("-", "").translate(_LOOKALIKES)
        for character in digits:
            if character not in _CROCKFORD_ALPHABET:
                raise IdentityError(f"{character!r} does not occur in a join code")
        if len(digits) != _JOIN_CODE_CHARACTERS:
            raise IdentityError(
                f"a join code has {_JOIN_CODE_CHARACTERS} letters and digits after "
                f"{JOIN_CODE_PREFIX!r}, found {len(digits)}"
            )
        payload = base64.b32decode(digits.translate(_FROM_CROCKFORD))
        secret, checksum = payload[:SECRET_BYTES], payload[SECRET_BYTES:]
        if _checksum(secret) != checksum:
            raise IdentityError("the join code's checksum does not match: a character is mistyped")
        return cls(secret)

    def join_code(self) -> str:
        """Return the key as one line for the next machine; a secret like the key itself."""
        payload = self.secret + _checksum(self.secret)
        digits = base64.b32encode(payload).decode("ascii").translate(_TO_CROCKFORD)
        groups = (
            digits[start : start + _JOIN_CODE_GROUP]
            for start in range(0, len(digits), _JOIN_CODE_GROUP)
        )
        return JOIN_CODE_PREFIX + "-".join(groups)


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
        key = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = key.public_key()
        name = _common_name(f"phextsync mesh {_mesh_tag(public_key)}")
        certificate = (
            _certificate_builder(subject=name, issuer=name, public_key=public_key, serial=1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, algorithm=None)
        )
        return cls(key, certificate)

    def issue(self, public_key: Ed25519PublicKey, name: str) -> x509.Certificate:
        """Return the certificate of a node; the same for the same key and name."""
        check_node_name(name)
        # Positive and at most 20 octets: RFC 5280, section 4.1.2.2.
        serial = int.from_bytes(b"\1" + _digest(_public_bytes(public_key) + name.encode(), 16))
        usages = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        return (
            _certificate_builder(
                subject=_common_name(name),
                issuer=self.certificate.subject,
                public_key=public_key,
                serial=serial,
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
            .sign(self.key, algorithm=None)
        )


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's own key, its certificate, the mesh's authority, and the mesh key if it is shared."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: x509.Certificate
    authority: x509.Certificate
    mesh_key: MeshKey | None = None

    def __post_init__(self) -> None:
        if _public_bytes(self.key.public_key()) != _certificate_public_bytes(self.certificate):
            raise IdentityError("the node key does not belong to the node certificate")
        try:
            self.certificate.verify_directly_issued_by(self.authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise IdentityError(
                "the node certificate was not issued by the mesh's authority"
            ) from error
        if self.mesh_key is not None:
            derived = Authority.from_mesh_key(self.mesh_key).certificate
            if derived != self.authority:
                raise IdentityError("the mesh key does not belong to the mesh's authority")

    @classmethod
    def create(cls, mesh_key: MeshKey, name: str, random_bytes: bytes) -> Self:
        """Return a new identity whose node key is 32 bytes from a cryptographic source."""
        if len(random_bytes) != SECRET_BYTES:
            raise IdentityError(
                f"a node key has {SECRET_BYTES} bytes, found {len(random_bytes)} bytes"
            )
        key = Ed25519PrivateKey.from_private_bytes(random_bytes)
        authority = Authority.from_mesh_key(mesh_key)
        return cls(key, authority.issue(key.public_key(), name), authority.certificate, mesh_key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the identity kept in `folder`; refuse one that others on this machine may read."""
        return cls._from_pem(_read_private(folder / IDENTITY_FILE))

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
        text += self.certificate_chain_pem()
        text += self.authority.public_bytes(serialization.Encoding.PEM)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(path, text)
        except OSError as error:
            raise IdentityError(f"the identity cannot be written: {error}") from error

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

    def certificate_chain_pem(self) -> bytes:
        """The node's private key and certificate as `ssl` wants them in one file."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key + self.certificate.public_bytes(serialization.Encoding.PEM)

    def authority_der(self) -> bytes:
        """The authority's certificate as `ssl` wants it for `cadata`."""
        return self.authority.public_bytes(serialization.Encoding.DER)

    @classmethod
    def _from_pem(cls, data: bytes) -> Self:
        try:
            key = serialization.load_pem_private_key(data, password=None)
            certificates = x509.load_pem_x509_certificates(data)
        except (ValueError, TypeError) as error:
            raise IdentityError(
                f"{IDENTITY_FILE} does not hold a key and certificates: {error}"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise IdentityError(
                f"expected an Ed25519 node key in {IDENTITY_FILE}, found {type(key).__name__}"
            )
        if len(certificates) != 2:
            raise IdentityError(
                f"expected 2 certificates in {IDENTITY_FILE}, found {len(certificates)}"
            )
        return cls(key, certificates[0], certificates[1], _mesh_key_from_pem(data))


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


def _digest(data: bytes, digest_bytes: int) -> bytes:
    return hashlib.blake2b(data, digest_size=digest_bytes).digest()


def _checksum(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=_CHECKSUM_BYTES, person=b"phextsync join 1").digest()


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
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
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
    *, subject: x509.Name, issuer: x509.Name, public_key: Ed25519PublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
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


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise IdentityError(f"the identity cannot be read: {error}") from error
    if os.name == "posix" and mode & 0o077:
        raise IdentityError(f"{path} has mode {mode:04o}, expected 0600: others may have read it")
    if len(data) > _FILE_BYTES_MAX:
        raise IdentityError(f"{path} exceeds {_FILE_BYTES_MAX} bytes: expected an identity")
    return data


def _write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file of mode 0600 with `data`, durably; never half of it."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # left by a crash
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
