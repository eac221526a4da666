"""What attacks of a hostile member cost: memory and time, each beside its stated limit.

Each attack runs in a fresh process against a node with some thousand scrolls and an honest peer
that edits meanwhile (`sims.attacks`); it fails unless the honest ones stay linked and become equal
and the link ended with the reason that it should. Memory is the most that the process had beyond
what it had before the attack; the attacker and the honest peer are in the same process.
"""

from benchmarks.nodes import anonymous_mb, in_child
from benchmarks.report import Report
from sims.attacks import ATTACKS, meet, suffer


def run(*, quick: bool) -> Report:
    """Run every attack; `quick` leaves out those that are borne without ending the link."""
    report = Report()
    for name, attack in ATTACKS.items():
        if quick and not attack.reason:
            continue
        peak_mb, frame_ms, frames = measure(name)
        limit = f"{name}_limit_mb"
        report.add(limit, [attack.memory_mb], "MB")
        report.add(f"{name}_peak_mb", [peak_mb], "MB", limit)
        report.add(f"{name}_frame_ms", [frame_ms], "ms")
        report.add(f"{name}_frames", [frames], "frames")
    return report


def measure(name: str) -> tuple[float, float, int]:
    """Return what one attack took of memory in MB, the longest that a frame took in ms, and how
    many frames there were. AssertionError when that is more memory than its limit."""
    (before_mb, frame_ms, frames), peak_mb = in_child(_suffer, name)
    peak_mb = max(0.0, peak_mb - before_mb)
    assert peak_mb <= ATTACKS[name].memory_mb, f"{name} took {peak_mb:.0f} MB"
    return peak_mb, frame_ms, frames


def _suffer(name: str) -> tuple[float, float, int]:
    network = meet()
    before_mb = anonymous_mb()
    attacker = suffer(name, network)
    return before_mb, attacker.frame_s * 1000, attacker.frames
