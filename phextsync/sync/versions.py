"""Versions: what a peer's version of a scroll tells beside ours.

Who lacks something asks for it. Equal versions of different texts are a conflict: somebody wrote
under one client id twice. The side with the greater text takes the other and merges its own lines.
"""

from hashlib import blake2b

from phextsync.errors import ProtocolError
from phextsync.index import EMPTY_VERSION, Coordinate, check_version, contains, covers
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.had import HadVersions
from phextsync.sync.messages import DIGEST_BYTES, Conflict, Had, ScrollId, Want
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.refusals import Refusals
from phextsync.sync.requests import Requests
from phextsync.sync.rights import LinkRights


class Versions:
    """The answers of one link to versions and conflicts that its peer tells."""

    def __init__(
        self,
        *,
        peer_id: bytes,
        replicas: ReplicaSet,
        rights: LinkRights,
        requests: Requests,
        outgoing: Outgoing,
        had: HadVersions,
        refusals: Refusals,
        outbox: Outbox,
    ) -> None:
        self._peer_id = peer_id
        self._replicas = replicas
        self._rights = rights
        self._requests = requests
        self._outgoing = outgoing
        self._had = had
        self._refusals = refusals
        self._outbox = outbox
        self._said: dict[ScrollId, None] = {}  # conflicts, since the last comparison

    def compared(self, phext: str) -> None:
        """A comparison has ended: a conflict that is still there is said again."""
        self._said = {scroll: None for scroll in self._said if scroll[0] != phext}

    def receive(self, message: Want | Had) -> None:
        """The peer tells which versions it has and asks for what it lacks, or which nodes had."""
        if isinstance(message, Had):
            self._receive_had(message)
            return
        for coordinate, version, fingerprint in message.scrolls:
            self._receive_want(message.phext, coordinate, version, fingerprint)

    def _receive_had(self, had: Had) -> None:
        scroll = had.phext, had.coordinate
        for _, version in had.versions:
            _check(version)
        if not contains(self._rights.of(had.phext).take, had.coordinate):
            return
        versions = self._replicas.peer_versions
        ours = self._replicas.open(had.phext).version(had.coordinate)
        for node_id, version in had.versions:
            if node_id != self._replicas.node_id:
                versions.tell(*scroll, node_id, version, ours)
                versions.hear(*scroll, node_id, version)

    def _receive_want(
        self, phext: str, coordinate: Coordinate, version: bytes, fingerprint: bytes
    ) -> None:
        _check(version)
        scroll, rights = (phext, coordinate), self._rights.of(phext)
        if not self._rights.shows(scroll):
            return
        if contains(rights.send, coordinate):
            self._refusals.forget(scroll)
            self._outgoing.ask(scroll, version)
        if version == EMPTY_VERSION:
            return
        replica = self._replicas.open(phext)
        ours = replica.version(coordinate)
        versions = self._replicas.peer_versions
        versions.tell(phext, coordinate, self._peer_id, version, ours)
        is_apart = not covers(ours, version)
        if contains(rights.send, coordinate) and (is_apart or scroll in versions.scrolls):
            self._had.ask(scroll, version)
        if is_apart:
            self._requests.want(scroll)
        elif ours == version and fingerprint:
            mine = replica.fingerprint(coordinate)[: len(fingerprint)]
            if mine != fingerprint:
                self._say_conflict(scroll)

    def receive_refused(self, scroll: ScrollId, reason: str) -> bool:
        """The peer does not take what we have of a scroll; return whether we could have sent it."""
        if not contains(self._rights.of(scroll[0]).send, scroll[1]):
            return False
        replica = self._replicas.known(scroll[0])
        if replica is not None and replica.version(scroll[1]) != EMPTY_VERSION:
            self._refusals.note(scroll, reason)
        return True

    def receive_conflict(self, scroll: ScrollId, theirs: bytes) -> None:
        """The peer has another text of our version, with the digest `theirs`."""
        rights = self._rights.of(scroll[0])
        if not contains(rights.held, scroll[1]):
            return
        if self._replicas.open(scroll[0]).version(scroll[1]) == EMPTY_VERSION:
            return
        ours = self._text_digest(scroll)
        if ours > theirs and contains(rights.take, scroll[1]):
            self._requests.adopt(scroll)
        elif ours < theirs:
            self._say_conflict(scroll)

    def _say_conflict(self, scroll: ScrollId) -> None:
        if scroll not in self._said:
            self._said[scroll] = None
            self._outbox.answer(Conflict(*scroll, self._text_digest(scroll)))
            self._refusals.report(
                f"{scroll[0]} {scroll[1]}: equal versions, different texts; mending"
            )

    def _text_digest(self, scroll: ScrollId) -> bytes:
        text = self._replicas.open(scroll[0]).get(scroll[1], "")
        return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _check(version: bytes) -> None:
    """ProtocolError when it is no version."""
    try:
        check_version(version)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
