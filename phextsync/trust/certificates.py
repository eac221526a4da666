"""Certificates: what they say, and how they and their keys are made and read.

What a certificate allows is in its subject alternative names, URIs as `permissions` reads
them; one without any allows everything.
"""

import datetime
import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from phextsync.errors import IdentityError
from phextsync.trust.permissions import UNRESTRICTED, Permissions

SECRET_BYTES: Final = 32
NODE_ID_BYTES: Final = 16
NAME_BYTES_MAX: Final = 64  # RFC 5280, appendix A: ub-common-name
PIN_BYTES: Final = 16
# A machine whose clock is dead or wrong must still reach its mesh.
_VALID_FROM: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_VALID_UNTIL: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def certificate_permissions(der: bytes) -> Permissions:
    """Return what a certificate allows; IdentityError when a grant cannot be read."""
    return permissions_of(load_der(der))


def key_pin(certificate: bytes, authority: bytes) -> bytes:
    """Return the digest of the keys of a node and of the authority that issued its certificate;
    IdentityError when it did not."""
    node, issuer = load_der(certificate), load_der(authority)
    if not has_issued(issuer, node):
        raise IdentityError("the node certificate was not issued by the mesh's authority")
    keys = certificate_public_bytes(node) + certificate_public_bytes(issuer)
    return digest(keys, PIN_BYTES)


def certificate_end_s(der: bytes) -> float:
    """Return when a certificate ceases to be valid, in seconds since 1970."""
    return load_der(der).not_valid_after_utc.timestamp()


def certificate_node_id(der: bytes) -> bytes:
    """Return the node id that a certificate stands for."""
    return digest(certificate_public_bytes(load_der(der)), NODE_ID_BYTES)


def certificate_name(der: bytes) -> str:
    """Return the node name that a certificate stands for."""
    return subject_name(load_der(der))


def check_node_name(name: str) -> None:
    """Refuse a name that a certificate or a line of a log could not carry unharmed."""
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES_MAX:
        raise IdentityError(
            f"a node name has 1 to {NAME_BYTES_MAX} bytes of UTF-8, found {name[:80]!r}"
        )
    if not name.isprintable() or name != name.strip():
        raise IdentityError(f"a node name is printable, without spaces at its ends, found {name!r}")


def read_request(data: bytes) -> tuple[str, Ed25519PublicKey]:
    """Return name and key of a request (PKCS#10, PEM) that its key has signed."""
    try:
        request = x509.load_pem_x509_csr(data)
    except ValueError as error:
        raise IdentityError("expected a request for a certificate, found something else") from error
    public_key = request.public_key()
    if not isinstance(public_key, Ed25519PublicKey) or not request.is_signature_valid:
        raise IdentityError("expected a request that its Ed25519 key has signed, found another")
    return _only_name(request.subject), public_key


def request_pem(key: Ed25519PrivateKey, name: str) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(common_name(name))
    return builder.sign(key, algorithm=None).public_bytes(serialization.Encoding.PEM)


def private_key(random_bytes: bytes, what: str) -> Ed25519PrivateKey:
    if len(random_bytes) != SECRET_BYTES:
        raise IdentityError(f"{what} has {SECRET_BYTES} bytes, found {len(random_bytes)} bytes")
    return Ed25519PrivateKey.from_private_bytes(random_bytes)


def from_pem(data: bytes) -> tuple[Ed25519PrivateKey, list[x509.Certificate]]:
    """Read a key and the certificates that follow it, if any. IdentityError for anything else."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
        has_certificates = b"-----BEGIN CERTIFICATE-----" in data
        certificates = x509.load_pem_x509_certificates(data) if has_certificates else []
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError("expected a key and certificates, found something else") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"expected an Ed25519 key, found {type(key).__name__}")
    return key, certificates


def key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def permissions_of(certificate: x509.Certificate) -> Permissions:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return UNRESTRICTED
    except ValueError as error:
        raise IdentityError(f"expected a certificate that can be read: {error}") from error
    return Permissions.from_uris(names.get_values_for_type(x509.UniformResourceIdentifier))


def has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether an authority has signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def mesh_tag_of(authority_key: object) -> str:
    if not isinstance(authority_key, Ed25519PublicKey):
        raise IdentityError(
            f"expected an Ed25519 key of the authority, found {type(authority_key).__name__}"
        )
    return digest(public_bytes(authority_key), 8).hex()


def public_bytes(public_key: Ed25519PublicKey) -> bytes:
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certificate_public_bytes(certificate: x509.Certificate) -> bytes:
    public_key = certificate.public_key()
    if not isinstance(public_key, Ed25519PublicKey):
        raise IdentityError(
            f"expected a certificate for an Ed25519 key, found {type(public_key).__name__}"
        )
    return public_bytes(public_key)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def subject_name(certificate: x509.Certificate) -> str:
    return _only_name(certificate.subject)


def _only_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise IdentityError(f"expected one name in the certificate, found {len(names)}")
    check_node_name(names[0].value)
    return names[0].value


def load_der(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise IdentityError(f"expected a certificate, found {len(der)} other bytes") from error


def certificate_builder(
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
            x509.SubjectKeyIdentifier(digest(public_bytes(public_key), 20)), critical=False
        )
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def digest(data: bytes, digest_bytes: int) -> bytes:
    return hashlib.blake2b(data, digest_size=digest_bytes).digest()
