"""Codes: bytes as a line that people read aloud and retype, with a checksum."""

import base64
import hashlib
from typing import Final

from phextsync.errors import IdentityError

CHECKSUM_BYTES: Final = 3  # 32 + 3 bytes are exactly 56 characters of base 32
_JOIN_CODE_GROUP: Final = 7
# Crockford's base 32: no I, L, O, U, so that a code survives being read aloud or retyped.
_RFC4648_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TO_CROCKFORD: Final = str.maketrans(_RFC4648_ALPHABET, _CROCKFORD_ALPHABET)
_FROM_CROCKFORD: Final = str.maketrans(_CROCKFORD_ALPHABET, _RFC4648_ALPHABET)
_LOOKALIKES: Final = str.maketrans("ilo", "110")


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
    """Read what `encode_code` wrote, of that many `characters` if it is known; letter case,
    spaces and hyphens do not matter."""
    compact = "".join(text.lower().split())
    if not compact.startswith(prefix):
        raise IdentityError(
            f"expected a join code, which begins with {prefix!r}, found another text: "
            "`phextsync code` prints it on a machine of the mesh"
        )
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


def _checksum(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=CHECKSUM_BYTES, person=b"phextsync join 1").digest()
