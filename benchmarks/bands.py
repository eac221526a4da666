"""What each figure has to reach, whatever its size, on two cores of a server of 2023 or better.

Ratios hold anywhere; times and rates on such a machine when nothing else runs on it, and what is
counted on any machine, no matter what else it does.
"""

from typing import Final

COUNTED: Final = {
    "reconcile_equal_bytes@1e5": 48,
    "reconcile_equal_bytes@1e6": 48,
    "reconcile_10_bytes@1e5": 1300,
    "reconcile_10_bytes@1e6": 1300,
    "reconcile_10_round_trips@1e5": 1,
    "reconcile_10_round_trips@1e6": 1,
    "reconcile_100_bytes_each@1e5": 65,
    "reconcile_100_bytes_each@1e6": 65,
    "reconcile_100_flights@1e5": 2,
    "reconcile_100_flights@1e6": 2,
    "ranges_100_bytes_each@1e6": 500,
    "reconcile_block_bytes_each@1e5": 0.5,
    "first_sync_wire_ratio@1e4": 1.05,
    "reconnect_bytes@1e4": 5000,
    "edit_wire_bytes": 75,
    "edit_calls_writer": 122,
    "edit_calls_reader": 100,
    "commit_calls": 275,
    "six_overhead_ratio": 1.03,
    "flood_lost": 0,
    "flood_doubled": 0,
    "attached_lost": 0,
    "attached_doubled": 0,
    "attached_disordered": 0,
    "balance@500": 1.5,
    "join_moves@500": 1.8,
    "co_holders_max@500": 16,
    "repair_s@500": 90,
    "repair_overhead@500": 1.3,
    "page_gzip_kb": 300,
    "agents_lost": 0,
    "agents_doubled": 0,
    "agents_refused": 0,
}
AT_MOST: Final = {
    **COUNTED,
    "lookup_coordinate_ratio@1e4": 0.55,
    "lookup_coordinate_ratio@1e5": 0.40,
    "lookup_coordinate_ratio@1e6": 0.35,
    "lookup_text_ratio@1e4": 1.0,
    "lookup_text_ratio@1e5": 0.70,
    "lookup_text_ratio@1e6": 0.70,
    "lookup_chain_ratio@1e6": 0.60,
    "lookup_file_ratio@1e4": 0.01,
    "range_fingerprint_us@1e5": 0.9,
    "range_fingerprint_us@1e6": 2.0,
    "insert_us@1e6": 1.2,
    "index_bytes_per_entry@1e6": 135,
    "audit_ns_per_entry@1e6": 40,
    "near_ms@1e5": 0.4,
    "near_ms@1e6": 0.5,
    "near_nested_ms@1e5": 0.8,
    "near_nested_ms@1e6": 1.5,
    "reconnect_ms@1e4": 15,
    "foreign_read_p50_ms": 2,
    "foreign_read_p99_ms": 8,
    "cached_read_us": 100,
    "edit_visible_p50_ms": 0.30,
    "edit_visible_p50_ratio": 1.35,
    "edit_visible_p99_ms": 1.0,
    "edit_visible_spread": 3,
    "edit_cpu_ratio": 1.76,
    "idle_cpu_percent": 0.3,
    "anywhere_stored_ratio": 1.5,
    "appended_stored_ratio": 1.5,
    "anywhere_used_ratio": 1.5,
    "read_open_ratio": 5,
    "closed_read_us@1e5": 2.5,
    "missing_read_us@1e5": 0.2,
    "append_blocking_us": 60,
    "attached_durable_ratio": 4,
    "takeover_ms": 1000,
    "idle_mb@1e6": 150,
    "replace_unlike_s@400KB": 0.3,
    "replace_unlike_4_times_ratio": 6,
    "start_s@1e6": 1.0,
    "redundancy@500": 0.2,
    "overhead@500": 3.0,
    "last_hop@500": 8,
    "updates_per_edit@500": 2.2,
    "links_max@500": 16,
    "idle_bytes_per_s@500": 300,
    "heal_s@26": 2,
    "resident_mb@26": 60,
    "members_mb@5e3": 5,
    "members_load_ms@5e3": 1000,
    "client_to_client_p50_ms": 2.5,
    "client_to_client_p99_ms": 10,
    "browser_to_browser_p50_ms": 2.5,
    "browser_to_browser_p99_ms": 10,
    "first_paint_ms@26": 300,
    "one_node_ratio": 1.0,
    "sockets_mb@200x50": 120,
    "report_lookup_ratio": 1.2,
    "report_reconcile_10_bytes": 1300,
    "report_reconcile_10_round_trips": 1,
    "report_disk_ratio": 1.0,
    "report_updates": 6,
    "sync_turn_p99_ms": 2,
    "prefetch_p99_ms@1e5": 20,
}
AT_LEAST: Final = {
    "bulk_keys_per_s@1e6": 6e6,
    "first_sync_scrolls_per_s@1e4": 30_000,
    "first_sync_scrolls_per_s@1e6": 40_000,
    "delivered_part@500": 1,
    "reads_answered@26-2": 100,
    "writes_accepted@26-2": 100,
    "report_answered": 1,
}


def verdict(name: str, value: float) -> str:
    """Return what is asked of a figure and, if it misses that, say so; empty if nothing is."""
    if name in AT_MOST:
        text, is_reached = f"at most {AT_MOST[name]:g}", value <= AT_MOST[name]
    elif name in AT_LEAST:
        text, is_reached = f"at least {AT_LEAST[name]:g}", value >= AT_LEAST[name]
    else:
        return ""
    return text if is_reached else f"{text}: MISSED"


def is_far(name: str, value: float) -> bool:
    """Whether a figure misses what is asked of it by so much that no busy or slow machine explains
    it: a factor of 2 for ratios and sizes, 5 for times and rates, none for what is counted."""
    if name in COUNTED:
        return not value <= COUNTED[name]
    slack = 5 if _is_time(name) else 2
    if name in AT_MOST:
        return not value <= slack * AT_MOST[name]
    return not value >= AT_LEAST[name] / slack


def _is_time(name: str) -> bool:
    unit = name.partition("@")[0].rpartition("_")[2]
    return unit in ("ns", "us", "ms", "s", "percent")
