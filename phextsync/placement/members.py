"""Members: who is a node of the mesh, present or not, as a text and as a value.

The text of a member is a scroll of its own: a line for each fact, a word and what follows it. Any
member may have written it: a line that cannot be read does not count, and is told as a problem.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from phextsync.errors import IdentityError
from phextsync.phext_names import is_phext_name
from phextsync.trust.permissions import UNRESTRICTED, Permissions

WEIGHT_MAX: Final = 16
"""A member holds at most so many times what one of weight 1 holds."""
MEMBERS_MAX: Final = 10_000
"""Members of a mesh; of more, those with the least node ids."""
TEXT_MAX: Final = 4096
"""Characters of the text of one member that are read."""
APART_MAX: Final = 24
"""Phexts of which a member may say that it holds them by hand."""

_NAME_MAX: Final = 64
_WITNESSES: Final = 3
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the mesh. `weight` says how much it takes, beside others; `since_ms` when it came,
    by its own clock; `has_left` that it will not come back. `apart` are the phexts of which people
    said by hand what it holds. `silent` are the members that have not heard of it, each with the
    seconds after which it said so."""

    node_id: bytes
    name: str
    weight: int = 1
    since_ms: int = 0
    has_left: bool = False
    permissions: Permissions = field(default=UNRESTRICTED)
    apart: tuple[str, ...] = ()
    silent: tuple[tuple[bytes, int], ...] = ()

    def to_text(self) -> str:
        """Return the text of the member."""
        lines = [
            f"id {self.node_id.hex()}",
            f"name {self.name}",
            f"weight {self.weight}",
            f"since {self.since_ms}",
            *(f"may {uri}" for uri in self.permissions.to_uris()),
            *(f"apart {phext}" for phext in self.apart),
            *(["left"] if self.has_left else []),
            *(silent_line(witness, after_s) for witness, after_s in self.silent),
        ]
        return "".join(f"{line}\n" for line in lines)


_parsed: Final[dict[bytes, Member]] = {}
"""The members of the table that was read last, by the digests of texts of which all was read: of
many few have changed when all are read again."""


def silent_line(witness: bytes, after_s: int) -> str:
    """Return the line by which a member says that it has not heard of another for so long."""
    return f"silent {witness.hex()} {after_s}"


def is_absent(member: Member, members: Container[bytes], count: int, after_s: int) -> bool:
    """Whether enough of `count` members say that they have not heard of one for so long."""
    said = [by for by, told_s in member.silent if told_s >= after_s and by in members]
    return sum(by != member.node_id for by in said) >= witnesses(count)


def witnesses(members: int) -> int:
    """Return how many members have to say that one is silent: three, fewer in a mesh where three
    are not most of the others."""
    return min(_WITNESSES, members // 2 + 1)


def read_member(text: str) -> tuple[Member | None, list[str]]:
    """Return the member that a text describes, None without an id, and what cannot be read of it.

    Of several lines of one fact the greatest counts, whatever their order, so that two that were
    merged mean the same everywhere.
    """
    facts: dict[str, str] = {}
    uris: list[str] = []
    apart: dict[str, None] = {}
    silent: dict[bytes, int] = {}
    problems: list[str] = []
    for line in text[:TEXT_MAX].splitlines():
        word, _, rest = line.strip().partition(" ")
        by, _, after = rest.partition(" ")
        if word == "may":
            uris.append(rest)
        elif word == "apart" and is_phext_name(rest):
            apart[rest] = None
        elif word == "silent" and _is_id(by) and _is_number(after):
            witness = bytes.fromhex(by)
            silent[witness] = max(int(after), silent.get(witness, 0))
        elif word == "left" or (word in _READ and _READ[word](rest)):
            facts[word] = max(rest, facts.get(word, rest), key=_order)
        elif word:
            problems.append(f"expected a fact of a member, found {line!r:.60}")
    try:
        permissions = Permissions.from_uris(uris)
    except IdentityError as error:
        return None, [*problems, str(error)]
    if "id" not in facts:
        return None, [*problems, "expected a line `id`, found none"] if text.strip() else problems
    member = Member(
        bytes.fromhex(facts["id"]),
        facts.get("name", facts["id"][:8]),
        int(facts.get("weight", "1")),
        int(facts.get("since", "0")),
        "left" in facts,
        permissions,
        tuple(sorted(apart)),
        tuple(sorted(silent.items())),
    )
    return member, problems


def table_of(texts: Iterable[str]) -> tuple[dict[bytes, Member], list[str]]:
    """Return the members that texts describe by node id, without those that have left, and what
    cannot be read. Of two texts with one id the greater one counts."""
    found: dict[bytes, tuple[str, Member]] = {}
    parsed: dict[bytes, Member] = {}
    problems: list[str] = []
    for text in texts:
        digest = blake2b(text[:TEXT_MAX].encode(), digest_size=_DIGEST_BYTES).digest()
        member = _parsed.get(digest)
        is_whole = member is not None
        if member is None:
            member, unread = read_member(text)
            is_whole = not unread
            problems += unread
        if member is not None:
            if is_whole and len(parsed) < MEMBERS_MAX:
                parsed[digest] = member
            known = found.get(member.node_id)
            if known is None or known[0] < text:
                found[member.node_id] = text, member
    _parsed.clear()
    _parsed.update(parsed)
    present = [member for _, member in found.values() if not member.has_left]
    present.sort(key=lambda member: member.node_id)
    if len(present) > MEMBERS_MAX:
        problems.append(f"expected at most {MEMBERS_MAX} members, found {len(present)}")
    return {member.node_id: member for member in present[:MEMBERS_MAX]}, problems


def _order(text: str) -> tuple[int, str]:
    """Order numbers by their size, and other texts after their length."""
    return len(text), text


def _is_id(text: str) -> bool:
    return len(text) == 32 and all(digit in "0123456789abcdef" for digit in text)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _NAME_MAX and text.isprintable()


def _is_weight(text: str) -> bool:
    return _is_number(text) and 1 <= int(text) <= WEIGHT_MAX


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15 and str(int(text)) == text


_READ: Final = {"id": _is_id, "name": _is_name, "weight": _is_weight, "since": _is_number}
