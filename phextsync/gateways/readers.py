"""Readers: what each of those who ask knows of scrolls, which decides what it may write over."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from phextsync.index import Coordinate

_SEEN_CHARACTERS_MAX: Final = 4 << 20
_SEEN_MAX: Final = 4096
_TOKEN_BYTES: Final = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """The text of a scroll as somebody knows it: its first `known` characters."""

    text: str
    known: int

    @property
    def is_whole(self) -> bool:
        return self.known >= len(self.text)


class Views:
    """What each reader knows of scrolls, so that writing a whole scroll does only what its writer
    did to the text that it had read, and what others wrote since stays.

    A reader is a session. Who has none gets a token with a text that it reads whole, and shows it
    when it writes; equal texts have one token. What was not used for longest is forgotten.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], Seen] = {}  # the oldest first
        self._characters = 0

    def of(self, reader: str, phext: str, place: Coordinate) -> Seen | None:
        """Return what a reader knows of a scroll."""
        return self._seen.get((reader, phext, str(place)))

    def keep(self, session: str | None, phext: str, place: Coordinate, seen: Seen) -> str:
        """Keep what somebody knows of a scroll now; return the token for it, "" for none."""
        if session is None and not seen.is_whole:
            return ""
        token = "" if session is not None else _token(seen.text)
        key = (reader_of(session, token), phext, str(place))
        self._forget(key)
        self._seen[key] = seen
        self._characters += len(seen.text)
        while self._characters > _SEEN_CHARACTERS_MAX or len(self._seen) > _SEEN_MAX:
            self._forget(next(iter(self._seen)))
        return token

    def forget(self, session: str | None, phext: str, place: Coordinate) -> None:
        """Forget what a session knows of a scroll."""
        self._forget((reader_of(session, ""), phext, str(place)))

    def _forget(self, key: tuple[str, str, str]) -> None:
        seen = self._seen.pop(key, None)
        self._characters -= 0 if seen is None else len(seen.text)


def reader_of(session: str | None, token: str) -> str:
    return f"token {token}" if token or session is None else f"session {session}"


def _token(text: str) -> str:
    return blake2b(text.encode(), digest_size=_TOKEN_BYTES).hexdigest()
