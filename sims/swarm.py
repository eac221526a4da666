"""Swarm: scenarios with any of all kinds of trouble besides, each seed with others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sims.tables import Scenario, Tier

_OF_NODES: Final = (
    *("halves", "islands", "rolling", "resets", "holds", "crashes", "full-disks", "sleepers"),
    "garbage",
)
_OF_MODELS: Final = ("halfopen", "torn", "clocks", "deaf")
# Where not everybody holds everything, a disk that rots may be the one to which others gave a line
# up. It is lost, and nobody could know.
_OF_PARTS: Final = frozenset({"holdings", "parts", "placed"})
_ROTS: Final = "torn"
_SETTLE_S: Final = 30.0  # at least: much is wrong when the faults end


def swarmed(known: Mapping[str, Scenario], tier: Tier) -> dict[str, Scenario]:
    """Return these scenarios with a swarm in the place of some of several kinds."""
    kinds = [*_OF_NODES, *(_OF_MODELS if tier == "world" else ())]
    return {name: _swarmed(scenario, kinds) for name, scenario in known.items()}


def _swarmed(scenario: Scenario, kinds: list[str]) -> Scenario:
    own = {name: given for name, given in scenario.generators.items() if name != "some"}
    if _OF_PARTS & {*own}:
        kinds = [kind for kind in kinds if kind != _ROTS]
    settle_s = max(scenario.settle_s, _SETTLE_S)
    return replace(scenario, generators={**own, "swarm": {"of": kinds}}, settle_s=settle_s)
