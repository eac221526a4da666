"""A replica without a network: a mapping of coordinates to texts, kept in a folder."""

import sys
import tempfile
import time
from random import SystemRandom

from phextsync import CoordinateRange, LmdbStore, ReplicaSet


def main(folder: str) -> None:
    """Write and read a few scrolls, twice, to see that they last."""
    for _ in range(2):
        store = LmdbStore(folder)
        replicas = ReplicaSet(
            store,
            node_id=b"the only machine",
            random=SystemRandom(),
            wall_time_ms=lambda: time.time_ns() // 1_000_000,
        )
        diary = replicas.open("diary")
        diary.append("26.1.1/1.1.1/1.1.1", "It rained.\n")
        replicas.commit()
        for coordinate, text in diary.scrolls(CoordinateRange.parse("26.*")):
            print(coordinate, repr(text))
        store.close(clean=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
