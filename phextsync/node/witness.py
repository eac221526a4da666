"""Witness: says of members that are silent that they are, and takes it back. No IO, no clock.

A member is absent when enough others say so in the table of members; see `placement.silence`. Who
is back takes it back by telling its own line again, and so does each witness that hears of it.
"""

from collections.abc import Iterable, Mapping

from phextsync.control.placing import say_silent
from phextsync.placement.members import Member, is_absent
from phextsync.placement.silence import Silence
from phextsync.replica.replicas import ReplicaSet


class Witness:
    """What this node says of the silence of others."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self.silence = Silence(replicas.node_id)
        self._replicas = replicas
        self._members: Mapping[bytes, Member] = {}
        self._after_s: tuple[int, ...] = ()

    def read(self, members: Mapping[bytes, Member], after_s: Iterable[int]) -> None:
        """These are the members as they are told now; after each of these seconds of silence
        others are to hold what one of them held."""
        self._members = members
        self._after_s = tuple(sorted({*after_s}, reverse=True))

    def look(self, now: float, heard: Mapping[bytes, float]) -> None:
        """It is `now`, and the members in `heard` are there: of each the time of its last word."""
        members = self._members if self._after_s else {}
        self.silence.look(now, members, heard)
        own = self._replicas.node_id
        for node_id, member in members.items():
            said_s = dict(member.silent).get(own, 0)
            silent_s = self.silence.silent_s(node_id)
            after_s = next((each for each in self._after_s if silent_s >= each), 0)
            if said_s and self.silence.is_here(node_id) and silent_s < said_s / 2:
                say_silent(self._replicas, node_id, own, 0)
            elif after_s > said_s and own in members and self._is_to_say(member, after_s):
                say_silent(self._replicas, node_id, own, after_s)

    def _is_to_say(self, member: Member, after_s: int) -> bool:
        is_said = is_absent(member, self._members, len(self._members), after_s)
        return not is_said and self.silence.is_to_say(member.node_id, after_s)
