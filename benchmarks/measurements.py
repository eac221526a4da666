"""The whole report of one machine: `python -m benchmarks report --out DIR [--quick]`.

It writes `DIR/report.md` and `DIR/figures`; for `--out docs/NAME.md` that file and `docs/NAME`.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import bands, lookups, mesh, peers
from benchmarks.growth import open_replicas
from benchmarks.index import nested_coordinates
from benchmarks.reconcile import ten_differences
from benchmarks.sync import TEXT_BYTES, measure_sync
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.reporting import Curve, Document, Plot, Section, Series, machine
from phextsync.store.folder import DATA_FILE, STORE

_DIFFERENCES: Final = 10
_SCROLLS: Final = 2000
_TEXT: Final = "~" * 100

# Which band a series of the report has to keep.
_BANDS: Final = {
    "index over dict @1e4": "report_lookup_ratio",
    "wire over states @1e4": "first_sync_wire_ratio@1e4",
    "finding 10 differences @1e4": "report_reconcile_10_bytes",
    "finding 10 differences, round trips @1e4": "report_reconcile_10_round_trips",
    "store over flat files": "report_disk_ratio",
    "updates received per edit": "report_updates",
    **{f"reads answered, {n} of 6 offline": "report_answered" for n in range(4)},
    **{f"writes accepted, {n} of 6 offline": "report_answered" for n in range(4)},
}


def run(out: Path, *, quick: bool) -> list[str]:
    """Measure, write the report to `out`, and return what is wrong with it."""
    command = f"python -m benchmarks report --out {out}" + (" --quick" if quick else "")
    document = Document("What a mesh of six nodes measures", command, machine=machine())
    began = time.monotonic()
    steps = _steps(quick)
    with _progress() as progress:
        bar = progress.add_task("", total=len(steps) + 4)

        def note(name: str) -> None:
            progress.update(bar, description=name)
            progress.console.print(f"{time.monotonic() - began:6.1f} s  {name}")

        with mesh.six() as nodes:
            for name, measure in _mesh_steps(quick):
                note(name)
                document.sections.append(measure(nodes))
                progress.advance(bar)
        for name, step in steps:
            note(name)
            document.sections.append(step())
            progress.advance(bar)
    document.machine["time taken"] = f"{time.monotonic() - began:.0f} s"
    if out.suffix == ".md":
        document.write(out.parent, name=out.name, figures=out.stem)
    else:
        document.write(out)
    return missed(document)


def missed(document: Document) -> list[str]:
    """Return the series that are far from their band, or not there."""
    found = {series.name: series.median for s in document.sections for series in s.series}
    return [
        f"{name}: expected {bands.verdict(band, found.get(name, math.nan))}, found "
        f"{found.get(name, math.nan):.3g}"
        for name, band in _BANDS.items()
        if name not in found or bands.is_far(band, found[name])
    ]


def _mesh_steps(quick: bool) -> list[tuple[str, mesh.Measure]]:
    edits = 100 if quick else 300
    minutes = (1, 60) if quick else (1, 60, 1440)
    days, lines = (3, 30) if quick else (14, 100)
    return [
        ("topology", mesh.topology),
        ("latency", lambda nodes: mesh.latency(nodes, edits)),
        ("availability", lambda nodes: mesh.availability(nodes, minutes)),
        ("growth", lambda nodes: mesh.growth(nodes, days, lines)),
    ]


def _steps(quick: bool) -> list[tuple[str, Callable[[], Section]]]:
    runs = 2 if quick else 5
    exponents = (3, 4) if quick else (4, 5, 6)
    others = [] if quick else [("others", lambda: peers.section(quick=False))]
    return [
        ("look-ups", lambda: lookups.section(exponents, 5)),
        ("bulk", lambda: _bulk((3, 4) if quick else (3, 4, 5), 1 if quick else 3)),
        ("reconciliation", lambda: _reconciliation((3, 4, 5) if quick else (3, 4, 5, 6), runs + 1)),
        ("flat files", lambda: _overhead(runs, 100 if quick else 300)),
        *others,
    ]


# -- bulk ----------------------------------------------------------------------------------


def _bulk(exponents: tuple[int, ...], runs: int) -> Section:
    series: list[Series] = []
    for exponent in exponents:
        count, size = 10**exponent, f"@1e{exponent}"
        found = [measure_sync(count) for _ in range(runs)]
        texts = count * TEXT_BYTES
        for name, unit, values in (
            ("first synchronisation", "scrolls/s", [count / f.first_s for f in found]),
            ("first synchronisation, text", "MB/s", [texts / f.first_s / 1e6 for f in found]),
            ("wire over text", "ratio", [f.first_bytes / texts for f in found]),
            ("wire over states", "ratio", [f.wire_ratio for f in found]),
            ("coming back after 10 edits on each side", "ms", [f.reconnect_ms for f in found]),
            ("coming back, bytes", "bytes", [f.reconnect_bytes for f in found]),
            ("coming back, round trips", "round trips", [f.reconnect_round_trips for f in found]),
        ):
            series.append(Series(f"{name} {size}", unit, tuple(values)))
    method = (
        "Two node processes on loopback over TLS, each pinned to a core; scrolls of "
        f"{TEXT_BYTES} bytes, durable on arrival. Coming back: both have edited 10 scrolls "
        "apart; until both have the edits of both on disk, all bytes of the link counted."
    )
    return Section("Bulk", method, tuple(series))


def _reconciliation(exponents: tuple[int, ...], runs: int) -> Section:
    sizes = [10**exponent for exponent in exponents]
    floors = [math.log2(math.comb(count, _DIFFERENCES)) / 8 + 8 * _DIFFERENCES for count in sizes]
    series: list[Series] = []
    medians = []
    for exponent, count, floor in zip(exponents, sizes, floors, strict=True):
        rows = ten_differences(count, runs)
        for name, unit, column in (
            ("", "bytes", 0),
            (", round trips", "round trips", 1),
            (", time", "ms", 2),
        ):
            note = f"floor {floor:.0f} bytes" if column == 0 else ""
            values = tuple(row[column] for row in rows)
            series.append(Series(f"finding 10 differences{name} @1e{exponent}", unit, values, note))
            if column == 0:
                medians.append(series[-1].median)
    xs = tuple(map(float, sizes))
    plot = Plot(
        "reconciliation",
        "Bytes to find 10 differences",
        (
            Curve("measured", xs, tuple(medians)),
            Curve("floor: which scrolls, and 8 bytes of each", xs, tuple(floors)),
            Curve("a list of all, 20 bytes each", xs, tuple(20.0 * count for count in sizes)),
        ),
        "scrolls",
        "bytes",
        is_log_x=True,
        is_log_y=True,
    )
    method = (
        "Whole frames of a comparison until both sides know what differs, without a network. "
        "The floor: log2 C(n, 10) bits say which of n scrolls differ, and 8 bytes tell one "
        "version from another."
    )
    return Section("Reconciliation", method, tuple(series), (plot,))


# -- flat files ----------------------------------------------------------------------------


def _overhead(runs: int, edits: int) -> Section:
    rows: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
            ours = _write_scrolls(Path(temporary) / "ours", edits)
            flat = _write_files(Path(temporary) / "flat", edits)
        for (name, unit), value in ours.items():
            rows.setdefault((f"scrolls: {name}", unit), []).append(value)
        for (name, unit), value in flat.items():
            rows.setdefault((f"files: {name}", unit), []).append(value)
        ratio = ours[_DISK] / flat[_DISK]
        rows.setdefault(("store over flat files", "ratio"), []).append(ratio)
    series = tuple(Series(name, unit, tuple(values)) for (name, unit), values in rows.items())
    method = (
        f"{_SCROLLS} texts of 100 bytes, then {edits} appended lines, each durable before "
        "the next (a commit, or fsync of the file). Bytes on disk are allocated blocks."
    )
    return Section("Against flat files", method, series)


_DISK: Final = ("on disk", "bytes/scroll")

Row = dict[tuple[str, str], float]


def _write_scrolls(folder: Path, edits: int) -> Row:
    folder.mkdir()
    coordinates = nested_coordinates(_SCROLLS)
    store, replicas = open_replicas(folder)
    replica = replicas.open(DEFAULT_PHEXT)
    start = time.perf_counter()
    for coordinate in coordinates:
        replica.import_text(coordinate, _TEXT)
    replicas.commit()
    written_s = time.perf_counter() - start

    def edit(i: int) -> None:
        replica.append(coordinates[i], f"line {i}\n")
        replicas.commit()

    row = _edited(edit, edits)
    store.close(clean=True)
    row[_DISK] = (folder / STORE / DATA_FILE).stat().st_blocks * 512 / _SCROLLS
    row["write all", "us/scroll"] = written_s / _SCROLLS * 1e6
    return row


def _write_files(folder: Path, edits: int) -> Row:
    folder.mkdir()
    paths = [folder / coordinate.key.hex() for coordinate in nested_coordinates(_SCROLLS)]
    start = time.perf_counter()
    for path in paths:
        path.write_text(_TEXT)
    os.sync()
    written_s = time.perf_counter() - start

    def edit(i: int) -> None:
        with paths[i].open("a") as file:
            file.write(f"line {i}\n")
            file.flush()
            os.fsync(file.fileno())

    row = _edited(edit, edits)
    row[_DISK] = sum(path.stat().st_blocks * 512 for path in paths) / _SCROLLS
    row["write all", "us/scroll"] = written_s / _SCROLLS * 1e6
    return row


def _edited(edit: Callable[[int], None], edits: int) -> Row:
    wall, computed = time.perf_counter(), time.process_time()
    for i in range(edits):
        edit(i)
    return {
        ("edit to durable, mean", "ms"): (time.perf_counter() - wall) / edits * 1000,
        ("processor per 1,000 edits", "s"): (time.process_time() - computed) / edits * 1000,
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )


def main(out: Path, *, quick: bool) -> None:
    """Measure and write; status 1 when a series is far from its band."""
    problems = run(out, quick=quick)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))
