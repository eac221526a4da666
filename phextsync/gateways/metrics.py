"""What Prometheus reads of a node: its phexts, its peers, and the requests that it answered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from phextsync.control.status import PeerRow, StoreRow
from phextsync.node.node import Node
from phextsync.sync.traffic import Traffic

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus is told of the figures."""

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

_OF_DIRECTORIES: Final = {
    "files": "Files of a bound directory that this machine has",
    "in_step": "Files that are as their scrolls are",
    "waiting": "Files and scrolls that wait to be looked at",
    "left_alone": "Files that are left alone until they are mended",
    "held": "Files whose deletion waits to be confirmed",
    "conflicts": "Lines that two sides changed apart, and nobody settled",
}

_OF_PLACED: Final = {
    "copies": "Copies that are wished of each range of a placed phext",
    "least": "Copies within reach of the range that has fewest",
    "short": "Ranges with fewer copies than are wished",
    "move_bytes": "Bytes of what is here that others are to have and lack",
}


class NodeMetrics(Collector):
    """The figures of one node, read when they are asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter(
            "phextsync_http_requests",
            "HTTP requests answered",
            ("operation", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "phextsync_http_request_seconds",
            "From the header of an HTTP request to its answer",
            ("operation",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def note(self, operation: str, status: int, seconds: float) -> None:
        """Count an HTTP request. `operation` is one of few names, never a client's text."""
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Give the figures of phexts and peers, as `Collector` asks."""
        status = self._node.status()
        scrolls = _gauge("phextsync_scrolls", "Scrolls with text", "phext")
        size = _gauge("phextsync_text_bytes", "Bytes of durable text", "phext")
        for row in status.phexts:
            scrolls.add_metric([row.name], row.scrolls)
            size.add_metric([row.name], row.bytes)
        yield from (scrolls, size)
        yield from _links(status.peers)
        directories = {row.directory: row for row in status.directories}
        yield from _fields("directory", _OF_DIRECTORIES, "directory", directories)
        placed = {row.phext: row for row in status.placed}
        yield from _fields("placed", _OF_PLACED, "phext", placed)
        yield from _store(status.store)
        errors = CounterMetricFamily("phextsync_errors", "Errors that ended a part of the node")
        errors.add_metric([], status.errors.count)
        yield errors


def _fields(
    kind: str, names: Mapping[str, str], label: str, rows: Mapping[str, object]
) -> Iterator[Metric]:
    """Give a gauge for each of some fields of rows, by what labels the rows."""
    for name, about in names.items():
        gauge = _gauge(f"phextsync_{kind}_{name}", about, label)
        for labelled, row in rows.items():
            gauge.add_metric([labelled], getattr(row, name))
        yield gauge


def _store(store: StoreRow) -> Iterator[Metric]:
    writable = GaugeMetricFamily("phextsync_writable", "Whether the disk takes writes")
    writable.add_metric([], float(store.is_writable))
    opened = GaugeMetricFamily("phextsync_open_scrolls", "Scrolls that are open in memory")
    opened.add_metric([], store.open_scrolls)
    evicted = CounterMetricFamily("phextsync_evictions", "Scrolls closed to save memory")
    evicted.add_metric([], store.evictions)
    yield from (writable, opened, evicted)
    for name, about, row in (
        ("commit", "From taking a batch to its being durable", store.commits),
        ("sync", "Writing a batch's pages and waiting for the disk", store.syncs),
    ):
        family = HistogramMetricFamily(f"phextsync_{name}_seconds", about)
        family.add_metric([], buckets=[*row.at_most_s.items()], sum_value=row.sum_ms / 1000)
        yield family


def _links(peers: Sequence[PeerRow]) -> Iterator[Metric]:
    connected = GaugeMetricFamily("phextsync_peers", "Connected peers")
    connected.add_metric([], len(peers))
    trip = _gauge("phextsync_round_trip_seconds", "Last measured round trip", "peer")
    lacking = _gauge("phextsync_lacking_scrolls", "Scrolls not known to be there", "peer")
    traffic = [
        CounterMetricFamily(f"phextsync_link_{each.name}", each.name, labels=["peer"])
        for each in fields(Traffic)
    ]
    for peer in peers:
        label = [f"{peer.name}-{peer.node_id[:8]}"]
        if peer.round_trip_ms is not None:
            trip.add_metric(label, peer.round_trip_ms / 1000)
        lacking.add_metric(label, peer.lag_scrolls)
        for each, family in zip(fields(Traffic), traffic, strict=True):
            family.add_metric(label, getattr(peer, each.name))
    yield from (connected, trip, lacking, *traffic)


def _gauge(name: str, about: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=[label])
