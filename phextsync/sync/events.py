"""Events: who has come and gone, for the node to tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from phextsync.ranges import Ranges


@dataclass(frozen=True, slots=True)
class PeerJoined:
    link: int
    peer_id: bytes
    name: str


@dataclass(frozen=True, slots=True)
class PeerLost:
    """`interests` has the ranges that the peer held of the phexts that it told of."""

    link: int
    peer_id: bytes
    name: str
    reason: str
    interests: Mapping[str, Ranges] = field(default_factory=dict)


Event: TypeAlias = PeerJoined | PeerLost
