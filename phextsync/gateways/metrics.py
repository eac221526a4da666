"""What Prometheus reads of a node: its phexts, its peers, and the requests that it answered."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from phextsync.control.performing import summarize
from phextsync.node.node import Node

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

_OF_DIRECTORIES: Final = {
    "files": "Files of a bound directory that this machine has",
    "in_step": "Files that are as their scrolls are",
    "waiting": "Files and scrolls that wait to be looked at",
    "left_alone": "Files that cannot be kept in step",
    "held": "Files whose deletion waits to be confirmed",
    "conflicts": "Lines that two sides changed apart, and nobody settled",
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
        scrolls = _gauge("phextsync_scrolls", "Scrolls with text", "phext")
        size = _gauge("phextsync_text_bytes", "Bytes of durable text", "phext")
        for row in summarize(self._node.replicas):
            scrolls.add_metric([str(row["name"])], float(row["scrolls"]))
            size.add_metric([str(row["name"])], float(row["bytes"]))
        yield from (scrolls, size, *self._links(), *self._directories())
        writable = GaugeMetricFamily("phextsync_writable", "Whether the disk takes writes")
        writable.add_metric([], float(self._node.replicas.is_writable))
        yield writable
        yield from self._store()

    def _directories(self) -> Iterator[Metric]:
        directories = self._node.directories
        rows = [] if directories is None else directories.status()
        for name, about in _OF_DIRECTORIES.items():
            gauge = _gauge(f"phextsync_directory_{name}", about, "directory")
            for row in rows:
                if isinstance(value := row[name], int):
                    gauge.add_metric([str(row["directory"])], value)
            yield gauge

    def _store(self) -> Iterator[Metric]:
        replicas = self._node.replicas
        opened = GaugeMetricFamily("phextsync_open_scrolls", "Scrolls that are open in memory")
        opened.add_metric([], replicas.budget.scrolls)
        evicted = CounterMetricFamily("phextsync_evictions", "Scrolls closed to save memory")
        evicted.add_metric([], replicas.budget.evictions)
        yield from (opened, evicted)
        for name, about, times in (
            ("commit", "From taking a batch to its being durable", self._node.commits),
            ("sync", "Writing a batch's pages and waiting for the disk", replicas.store.syncs),
        ):
            family = HistogramMetricFamily(f"phextsync_{name}_seconds", about)
            family.add_metric([], buckets=times.buckets(), sum_value=times.sum_s)
            yield family

    def _links(self) -> Iterator[Metric]:
        peers = self._node.peers()
        connected = GaugeMetricFamily("phextsync_peers", "Connected peers")
        connected.add_metric([], len(peers))
        trip = _gauge("phextsync_round_trip_seconds", "Last measured round trip", "peer")
        lacking = _gauge("phextsync_lacking_scrolls", "Scrolls not known to be there", "peer")
        traffic: dict[str, CounterMetricFamily] = {}
        for peer in peers:
            label = [f"{peer.name}-{peer.node_id.hex()[:8]}"]
            if peer.round_trip_s is not None:
                trip.add_metric(label, peer.round_trip_s)
            lacking.add_metric(label, sum(lack.scrolls for _, lack in peer.lacks))
            for name, value in asdict(peer.traffic).items():
                family = traffic.setdefault(
                    name, CounterMetricFamily(f"phextsync_link_{name}", name, labels=["peer"])
                )
                family.add_metric(label, value)
        yield from (connected, trip, lacking, *traffic.values())


def _gauge(name: str, about: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=[label])
