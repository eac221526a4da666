"""Who a node is: its key, its certificates, and the mesh key if the mesh has one.

In an administered mesh a node holds certificates only: then `NodeIdentity.mesh_key` is None and
all else is the same. While a mesh changes its authority a node has two certificates for its one
key. A link is under one authority: the newer one if both sides have it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from phextsync.errors import IdentityError
from phextsync.trust.authority import Authority, Bundle, MeshKey, mesh_key_from_pem, mesh_key_pem
from phextsync.trust.certificates import (
    NODE_ID_BYTES,
    certificate_public_bytes,
    check_node_name,
    digest,
    from_pem,
    key_pem,
    load_der,
    mesh_tag_of,
    pem,
    permissions_of,
    private_key,
    public_bytes,
    read_request,
    request_pem,
    subject_name,
)
from phextsync.trust.permissions import Permissions
from phextsync.trust.private_files import (
    IDENTITY_FILE,
    PENDING_FILE,
    read_private,
    reading,
    save_private,
)


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
            if public_bytes(self.key.public_key()) != certificate_public_bytes(bundle.certificate):
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
        key = private_key(random_bytes, "a node key")
        authority = Authority.from_mesh_key(mesh_key)
        return cls(key, authority.issue(key.public_key(), name), authority.certificate, mesh_key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the identity kept in `folder`; refuse one that others on this machine may read."""
        path = folder / IDENTITY_FILE
        data = read_private(path)
        with reading(path):
            key, certificates = from_pem(data)
            if len(certificates) not in (2, 4):
                raise IdentityError(f"expected 2 certificates, found {len(certificates)}")
            previous = Bundle(*certificates[2:]) if len(certificates) == 4 else None
            return cls(key, certificates[0], certificates[1], mesh_key_from_pem(data), previous)

    def save(self, folder: Path, *, replace: bool = False) -> None:
        """Write the identity into `folder`, whole or not at all, as a file of mode 0600."""
        path = folder / IDENTITY_FILE
        if not replace and path.exists():
            raise IdentityError(f"{path} exists already: expected a folder without an identity")
        # The mesh key comes first, so that no truncated file passes for an administered mesh.
        text = b""
        if self.mesh_key is not None:
            text = mesh_key_pem(self.mesh_key)
        text += key_pem(self.key) + b"".join(bundle.to_pem() for bundle in self.bundles)
        save_private(path, text)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The certificates of this node with their authorities, the newest first."""
        current = Bundle(self.certificate, self.authority)
        return (current,) if self.previous is None else (current, self.previous)

    def rotated(self, mesh_key: MeshKey) -> "NodeIdentity":
        """Return this node in the mesh of another key; the present key stays valid too."""
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
        certificate = load_der(der)
        return any(bundle.has_issued(certificate) for bundle in self.bundles)

    def request(self) -> bytes:
        """Return a request for a new certificate for the same key and name (PKCS#10, PEM)."""
        return request_pem(self.key, self.name)

    @property
    def node_id(self) -> bytes:
        """16 bytes: the BLAKE2b digest of the node key's SubjectPublicKeyInfo."""
        return digest(public_bytes(self.key.public_key()), NODE_ID_BYTES)

    @property
    def name(self) -> str:
        """The node's name, as its certificate has it."""
        return subject_name(self.certificate)

    @property
    def mesh_tag(self) -> str:
        """16 hexadecimal digits that tell meshes apart; not a secret."""
        return mesh_tag_of(self.authority.public_key())

    @property
    def permissions(self) -> Permissions:
        """What the node's certificate allows."""
        return permissions_of(self.certificate)

    def certificate_chain_pem(self, bundle: Bundle) -> bytes:
        """The node's private key and a certificate as `ssl` wants them in one file."""
        return key_pem(self.key) + pem(bundle.certificate)


class PendingIdentity:
    """A node that has asked for a certificate: its key, in a file until the answer comes."""

    def __init__(self, key: Ed25519PrivateKey, name: str) -> None:
        check_node_name(name)
        self._key = key
        self.name = name

    @classmethod
    def create(cls, name: str, random_bytes: bytes) -> Self:
        """Return one whose node key is 32 bytes from a cryptographic source."""
        return cls(private_key(random_bytes, "a node key"), name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        path = folder / PENDING_FILE
        data = read_private(path)
        with reading(path):
            key, _ = from_pem(data)
            return cls(key, read_request(data)[0])

    def save(self, folder: Path) -> None:
        """Write the key and the request into `folder` as a file of mode 0600."""
        save_private(folder / PENDING_FILE, key_pem(self._key) + self.request())

    def request(self) -> bytes:
        """Return the request for a certificate (PKCS#10, PEM)."""
        return request_pem(self._key, self.name)

    def accepted(self, bundle: Bundle) -> NodeIdentity:
        """Return the identity that the answer makes of it."""
        return NodeIdentity(self._key, bundle.certificate, bundle.authority)

    def discard(self, folder: Path) -> None:
        """Delete the file: the identity has the key now."""
        (folder / PENDING_FILE).unlink(missing_ok=True)
