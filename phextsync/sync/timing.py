"""Timing: how often a node does what, and when it gives up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A dead peer is noticed after `dead_after_s`, one that says no hello after
    `hello_within_s`; a comparison that found nothing new is repeated after `compare_interval_s`,
    one that did after `compare_delay_s`; a large phext is audited at most every
    `audit_interval_s`. A node tells its presence at least every `presence_interval_s` and is gone
    after three times as long."""

    ping_interval_s: float = 1.0
    dead_after_s: float = 3.0
    hello_within_s: float = 10.0
    compare_interval_s: float = 30.0
    compare_delay_s: float = 0.1
    audit_interval_s: float = 600.0
    presence_interval_s: float = 5.0
