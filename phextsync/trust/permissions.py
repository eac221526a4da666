"""Permissions: which ranges of which phexts a node may read and write. Values, and their URIs.

Ranges are kept sorted, disjoint and merged, so that two sides that intersect the same ranges get
the same scope.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from phextsync.errors import IdentityError
from phextsync.index import EVERYTHING, CoordinateRange
from phextsync.ranges import Ranges, stored_range, union

SCHEME: Final = "phext"

EVERY_PHEXT: Final = ""
"""The key under which a grant has the ranges of every phext."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a node may read and write: ranges by the name of the phext, or `EVERY_PHEXT`.

    Phexts of the library, whose names begin with a dot, speak of all others: a grant for every
    phext holds for them only if it is for all coordinates.
    """

    read: Mapping[str, Ranges]
    write: Mapping[str, Ranges]

    @classmethod
    def of(
        cls,
        read: Mapping[str, Sequence[CoordinateRange]],
        write: Mapping[str, Sequence[CoordinateRange]],
    ) -> Self:
        """Return permissions of any ranges. Who writes may read: merging shows what is there."""
        names = sorted({*read, *write})
        return cls(
            {name: union(read.get(name, ()), write.get(name, ())) for name in names},
            {name: union(write[name]) for name in sorted(write)},
        )

    @property
    def is_everything(self) -> bool:
        """Whether nothing is withheld."""
        return self.write.get(EVERY_PHEXT) == (EVERYTHING,)

    @property
    def reads_everything(self) -> bool:
        """Whether everything may be read."""
        return self.read.get(EVERY_PHEXT) == (EVERYTHING,)

    def readable(self, phext: str) -> Ranges:
        """Return what may be read of a phext."""
        return _granted(self.read, phext)

    def writable(self, phext: str) -> Ranges:
        """Return what may be written of a phext."""
        return _granted(self.write, phext)

    def to_uris(self) -> list[str]:
        """Return the grants as URIs, in order; none for permission for everything."""
        if self.is_everything:
            return []
        uris = [
            f"{SCHEME}:{quote(phext, safe='')}?{verb}={range_}"
            for verb, grant in (("read", self.read), ("write", self.write))
            for phext in sorted(grant)
            for range_ in grant[phext]
        ]
        if not uris:
            raise IdentityError("expected a range that may be read or written, found none")
        return uris

    @classmethod
    def from_uris(cls, uris: Iterable[str]) -> Self:
        """Read grants, `phext:NAME?read=RANGE` or `phext:NAME?write=RANGE`; without a name they
        hold in every phext, and URIs of other schemes mean nothing. No grant at all allows
        everything. IdentityError when one cannot be read."""
        ours = [uri for uri in uris if uri.lower().startswith(f"{SCHEME}:")]
        if not ours:
            return cls(UNRESTRICTED.read, UNRESTRICTED.write)
        granted: dict[str, dict[str, Ranges]] = {"read": {}, "write": {}}
        try:
            for parts in map(urlsplit, ours):
                for verb, text in parse_qsl(parts.query):
                    if verb in granted:  # a verb that is not known grants nothing
                        grant, phext = granted[verb], unquote(parts.path)
                        grant[phext] = (*grant.get(phext, ()), stored_range(text))
        except ValueError as error:
            raise IdentityError(f"expected ranges in a certificate, found {error}") from error
        return cls.of(granted["read"], granted["write"])


UNRESTRICTED: Final = Permissions({EVERY_PHEXT: (EVERYTHING,)}, {EVERY_PHEXT: (EVERYTHING,)})

NOTHING: Final = Permissions({}, {})


def _granted(grant: Mapping[str, Ranges], phext: str) -> Ranges:
    everywhere = grant.get(EVERY_PHEXT, ())
    if phext.startswith(".") and everywhere != (EVERYTHING,):
        everywhere = ()
    own = grant.get(phext, ())
    return union(everywhere, own) if own else everywhere
