"""Identities: deterministic authorities, certificates, join codes and key files."""

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import IdentityError
from phextsync.index import CoordinateRange
from phextsync.trust.authority import Authority, Bundle, MeshKey
from phextsync.trust.certificates import (
    certificate_name,
    certificate_node_id,
    certificate_permissions,
)
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.permissions import EVERY_PHEXT, NOTHING, UNRESTRICTED, Permissions
from tests.strategies import near_coordinates, ranges

_KEY = MeshKey(bytes(range(32)))
_OTHER_KEY = MeshKey(bytes(32))
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"

secrets = st.binary(min_size=32, max_size=32)


def _node(key: MeshKey = _KEY, name: str = "anna", seed: int = 1) -> NodeIdentity:
    return NodeIdentity.create(key, name, bytes([seed]) * 32)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@given(secrets)
def test_a_join_code_is_one_line_and_gives_the_key_back(secret: bytes) -> None:
    code = MeshKey(secret).join_code()
    assert code.isprintable()
    assert " " not in code
    assert MeshKey.from_join_code(code) == MeshKey(secret)


@given(secrets, st.integers(0, 55), st.sampled_from(_DIGITS))
def test_a_join_code_with_one_wrong_character_is_refused(
    secret: bytes, place: int, digit: str
) -> None:
    prefix, _, rest = MeshKey(secret).join_code().partition("-")
    digits = list(rest.replace("-", ""))
    if digits[place] == digit:
        digit = _DIGITS[(_DIGITS.index(digit) + 1) % len(_DIGITS)]
    digits[place] = digit
    with pytest.raises(IdentityError, match="mistyped"):
        MeshKey.from_join_code(f"{prefix}-{''.join(digits)}")


def test_a_join_code_survives_upper_case_spaces_and_lookalikes() -> None:
    code = _KEY.join_code()
    head, _, digits = code.partition("-")
    retyped = digits.replace("0", "O").replace("1", "l").replace("-", " ")
    assert MeshKey.from_join_code(f"  {head.upper()}-{retyped.upper()}\n") == _KEY


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "begins with"),
        ("phextsync2-abc", "begins with"),
        (_KEY.join_code()[:-1], "found 55"),
        (_KEY.join_code() + "0", "found 57"),
        (_KEY.join_code()[:-1] + "u", "'u' does not occur"),
        (_KEY.join_code()[:-1] + "\N{SNOWMAN}", "does not occur"),
    ],
)
def test_what_is_no_join_code_is_refused_with_a_reason(code: str, message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        MeshKey.from_join_code(code)


def test_secrets_do_not_show_in_a_repr() -> None:
    text = repr(_node())
    assert _KEY.secret.hex() not in text
    assert repr(_KEY.secret) not in text


@pytest.mark.parametrize("length", [0, 31, 33])
def test_randomness_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IdentityError, match="32 bytes"):
        MeshKey.generate(bytes(length))
    with pytest.raises(IdentityError, match="32 bytes"):
        NodeIdentity.create(_KEY, "anna", bytes(length))


def test_one_key_gives_one_authority_byte_for_byte() -> None:
    first, second = (Authority.from_mesh_key(MeshKey(_KEY.secret)) for _ in range(2))
    assert _der(first.certificate) == _der(second.certificate)
    # The same on every machine and in every later version: meshes outlive releases.
    assert _node().mesh_tag == "46af377d7e42a05f"
    assert _node(_OTHER_KEY).mesh_tag != _node().mesh_tag


def test_certificates_hold_from_1970_to_9999() -> None:
    for certificate in (_node().certificate, _node().authority):
        assert certificate.not_valid_before_utc.year == 1970
        assert certificate.not_valid_after_utc.year == 9999


def test_a_certificate_tells_node_id_and_name() -> None:
    node = _node(name="küche 2")
    der = _der(node.certificate)
    assert certificate_node_id(der) == node.node_id
    assert len(node.node_id) == 16
    assert certificate_name(der) == node.name == "küche 2"


def test_a_node_id_follows_from_the_node_key_alone() -> None:
    assert _node(name="anna").node_id == _node(_OTHER_KEY, name="bert").node_id
    assert _node(seed=1).node_id != _node(seed=2).node_id


def test_bytes_that_are_no_certificate_are_refused() -> None:
    with pytest.raises(IdentityError, match="expected a certificate"):
        certificate_node_id(b"none")


@pytest.mark.parametrize("name", ["", "a" * 65, "ä" * 33, " anna", "an\nna", "\ud800"])
def test_a_name_that_no_certificate_can_carry_is_refused(name: str) -> None:
    with pytest.raises(IdentityError, match="node name"):
        _node(name=name)


def test_a_folder_without_an_identity_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"there is no identity\.pem in .* `phextsync init`"):
        NodeIdentity.load(tmp_path)


@pytest.mark.parametrize("mesh_key", [_KEY, None])
def test_an_identity_is_the_same_after_saving_and_loading(
    tmp_path: Path, mesh_key: MeshKey | None
) -> None:
    made = _node()
    node = NodeIdentity(made.key, made.certificate, made.authority, mesh_key)
    node.save(tmp_path / "new" / "folder")
    loaded = NodeIdentity.load(tmp_path / "new" / "folder")
    assert loaded.node_id == node.node_id
    assert loaded.certificate == node.certificate
    assert loaded.authority == node.authority
    assert loaded.mesh_key == mesh_key


def test_the_key_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _node().save(tmp_path)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    _node().save(tmp_path)
    (tmp_path / "identity.pem").chmod(0o640)
    with pytest.raises(IdentityError, match="0640, expected 0600"):
        NodeIdentity.load(tmp_path)


def test_an_identity_is_not_overwritten_unasked(tmp_path: Path) -> None:
    _node(seed=1).save(tmp_path)
    with pytest.raises(IdentityError, match="exists already"):
        _node(seed=2).save(tmp_path)
    assert NodeIdentity.load(tmp_path).node_id == _node(seed=1).node_id
    _node(seed=2).save(tmp_path, replace=True)
    assert NodeIdentity.load(tmp_path).node_id == _node(seed=2).node_id


def test_a_draft_left_by_a_crash_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "identity.pem.new").write_bytes(b"half")
    _node().save(tmp_path)
    assert NodeIdentity.load(tmp_path).node_id == _node().node_id


@pytest.mark.parametrize("keep_bytes", [0, 30, 60, 100, 200, 700, 1200, -20])
def test_a_damaged_identity_file_is_refused(tmp_path: Path, keep_bytes: int) -> None:
    _node().save(tmp_path)
    path = tmp_path / "identity.pem"
    path.write_bytes(path.read_bytes()[:keep_bytes])
    with pytest.raises(IdentityError):
        NodeIdentity.load(tmp_path)


def test_a_folder_without_an_identity_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"identity\.pem"):
        NodeIdentity.load(tmp_path)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    node, stranger = _node(), _node(_OTHER_KEY, seed=2)
    with pytest.raises(IdentityError, match="node key does not belong"):
        NodeIdentity(stranger.key, node.certificate, node.authority)
    with pytest.raises(IdentityError, match="not issued by"):
        NodeIdentity(node.key, node.certificate, stranger.authority)
    with pytest.raises(IdentityError, match="mesh key does not belong"):
        NodeIdentity(node.key, node.certificate, node.authority, _OTHER_KEY)


def test_a_node_cannot_issue_certificates() -> None:
    node = _node()
    constraints = node.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    forged = Authority(node.key, node.certificate).issue(
        Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(), "mallory"
    )
    with pytest.raises(IdentityError, match="not issued by"):
        NodeIdentity(Ed25519PrivateKey.from_private_bytes(bytes(32)), forged, node.authority)


# -- administered meshes and changes of the authority --------------------------------------


def _with_another_signature(request: bytes) -> bytes:
    der = bytearray(x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


_RANGE = CoordinateRange.parse("1.2.*")
_grants = st.dictionaries(
    st.just(EVERY_PHEXT) | st.sampled_from(["memory", "a b/%?#&é=+", ".clients"]),
    st.lists(ranges(near_coordinates), min_size=1, max_size=3),
    max_size=3,
)


@settings(deadline=None)
@given(_grants, _grants)
def test_a_certificate_says_what_was_granted(
    read: dict[str, list[CoordinateRange]], write: dict[str, list[CoordinateRange]]
) -> None:
    permissions = Permissions.of(read, write)
    pending = PendingIdentity.create("anna", bytes(32))
    authority = Authority.generate(bytes(32))
    if not read and not write:
        with pytest.raises(IdentityError, match="expected a range"):
            authority.answer(pending.request(), permissions, now_s=0, valid_s=None)
        return
    bundle = authority.answer(pending.request(), permissions, now_s=0, valid_s=None)
    read_back = certificate_permissions(bundle.certificate_der())
    for phext in (*read, *write, "another"):
        assert read_back.readable(phext) == permissions.readable(phext)
        assert read_back.writable(phext) == permissions.writable(phext)
    assert read_back.is_everything == permissions.is_everything


def test_grants_stand_in_standard_fields() -> None:
    authority = Authority.generate(bytes(32))
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    permissions = Permissions.of({EVERY_PHEXT: [_RANGE]}, {"memory": [_RANGE]})
    names = authority.issue(key, "anna", permissions).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "phext:?read=1.2.*",
        "phext:memory?read=1.2.*",
        "phext:memory?write=1.2.*",
    ]
    with pytest.raises(x509.ExtensionNotFound):
        authority.issue(key, "anna").extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    ("uris", "message"),
    [
        (["phext:memory?read=nonsense"], "expected ranges in a certificate"),
        (["phext:memory?write=0.1.1/1.1.1/1.1.1"], "expected ranges in a certificate"),
        (["phext://[bad?read=*"], "expected ranges in a certificate"),
    ],
)
def test_a_grant_that_cannot_be_read_is_refused(uris: list[str], message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        Permissions.from_uris(uris)


def test_a_grant_of_nothing_is_none() -> None:
    expected = "^expected a range that may be read or written, found none$"
    with pytest.raises(IdentityError, match=expected):
        NOTHING.to_uris()


def test_what_is_no_grant_allows_nothing_and_other_names_restrict_nothing() -> None:
    for uri in ("phext:memory", "PHEXT:memory?admin=*", "phext:"):
        nothing = Permissions.from_uris([uri])
        assert nothing.readable("memory") == nothing.writable("memory") == ()
    assert Permissions.from_uris(["https://example.org/", "mailto:a@b"]) == UNRESTRICTED


def test_a_grant_without_ends_is_one_for_everything() -> None:
    assert Permissions.from_uris(["phext:?write=.."]) == UNRESTRICTED


def test_an_authority_answers_a_request_that_its_key_has_signed(tmp_path: Path) -> None:
    authority = Authority.generate(b"a" * 32)
    authority.save(tmp_path)
    with pytest.raises(IdentityError, match="exists already"):
        authority.save(tmp_path)
    pending = PendingIdentity.create("anna", b"k" * 32)
    pending.save(tmp_path)
    pending = PendingIdentity.load(tmp_path)
    bundle = Authority.load(tmp_path).answer(
        pending.request(), UNRESTRICTED, now_s=86400.0, valid_s=3600.0
    )
    identity = pending.accepted(Bundle.from_pem(bundle.to_pem()))
    assert identity.name == "anna"
    assert identity.mesh_key is None
    assert [moment.timestamp() for moment in identity.bundles[0].period] == [0, 90000]
    identity.save(tmp_path)
    assert NodeIdentity.load(tmp_path).mesh_tag == authority.mesh_tag
    pending.discard(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authority.pem", "identity.pem"]
    for request in (b"nonsense", _with_another_signature(pending.request())):
        with pytest.raises(IdentityError, match="expected a request"):
            authority.answer(request, UNRESTRICTED, now_s=0, valid_s=None)
    with pytest.raises(IdentityError, match="does not belong"):
        PendingIdentity.create("anna", b"x" * 32).accepted(bundle)


def test_a_node_has_both_certificates_while_the_mesh_key_changes(tmp_path: Path) -> None:
    before = _node(_KEY)
    during = before.rotated(_OTHER_KEY)
    during.save(tmp_path)
    during = NodeIdentity.load(tmp_path)
    assert during.node_id == before.node_id
    assert [bundle.mesh_tag for bundle in during.bundles] == [
        _node(_OTHER_KEY).mesh_tag,
        before.mesh_tag,
    ]
    assert during.rotated(_OTHER_KEY) is during
    with pytest.raises(IdentityError, match="--finish"):
        during.rotated(MeshKey(b"z" * 32))
    after = during.finished()
    peer = _der(_node(_KEY, "bert", 2).certificate)
    assert during.recognises(peer)
    assert before.recognises(peer)
    assert not after.recognises(peer)
    with pytest.raises(IdentityError, match="found none"):
        after.finished()


def test_a_certificate_of_another_authority_is_accepted_only_on_demand() -> None:
    old, new = Authority.generate(b"o" * 32), Authority.generate(b"n" * 32)
    pending = PendingIdentity.create("anna", bytes(32))
    first = old.answer(pending.request(), UNRESTRICTED, now_s=0, valid_s=None)
    second = new.answer(pending.request(), UNRESTRICTED, now_s=0, valid_s=None)
    identity = pending.accepted(first)
    with pytest.raises(IdentityError, match="--rotate"):
        identity.accepted(second)
    assert identity.accepted(second, rotates=True).previous == first
    with pytest.raises(IdentityError, match="ask the administrator"):
        identity.rotated(_KEY)
