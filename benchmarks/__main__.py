"""`python -m benchmarks NAME [--json] [--quick] [--check]`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import (
    agents,
    edits,
    files,
    foreign,
    growth,
    hostile,
    http,
    index,
    local,
    lookups,
    measurements,
    overlay,
    path,
    peers,
    placement,
    reconcile,
    scale,
    search,
    six,
    sync,
    web,
)
from benchmarks.report import still_far
from sims.arguments import library

_BENCHMARKS = {
    "agents": agents.run,
    "edits": edits.run,
    "files": files.run,
    "foreign": foreign.run,
    "growth": growth.run,
    "hostile": hostile.run,
    "http": http.run,
    "index": index.run,
    "local": local.run,
    "lookups": lookups.run,
    "overlay": overlay.run,
    "path": path.run,
    "peers": peers.run,
    "placement": placement.run,
    "reconcile": reconcile.run,
    "scale": scale.run,
    "search": search.run,
    "six": six.run,
    "sync": sync.run,
    "web": web.run,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark and print its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=sorted([*_BENCHMARKS, "report"]))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--out", type=Path, help="a folder, or an .md file", default=Path("report"))
    parser.add_argument(
        "--check", action="store_true", help="fail when a figure is far from its band, twice"
    )
    parser.add_argument(
        "--against", type=library, help="of six: the folder of another version of the library"
    )
    options = parser.parse_args(arguments)
    if options.against is not None and options.name != "six":
        parser.error(f"expected --against with six, found it with {options.name}")
    if options.name == "report":
        measurements.main(options.out, quick=options.quick)
        return
    measure = partial(_BENCHMARKS[options.name], quick=options.quick)
    if options.against is not None:
        measure = partial(six.run, quick=options.quick, against=options.against)
    report = measure()
    print(report.to_json() if options.json else report.to_text())
    if options.check and (far := still_far(report, measure)):
        sys.exit(f"far from what is asked, twice: {', '.join(far)}")


if __name__ == "__main__":
    main()
