"""Acceptance: what every store, network, discovery and file system must do. For everybody who
writes another one.

Each claim is a function; it returns when it holds and raises when it does not. A suite is a tuple
of them, made to be a parameter of a test:

    @pytest.mark.parametrize("claim", acceptance.STORE, ids=lambda claim: claim.__name__)
    def test_my_store(claim): claim(MyShelf())

Streams have such a suite in `trio.testing.check_two_way_stream`.

* `patience`: how long claims wait
* `stores`: `STORE`
* `networks`: `NETWORK`, and `SECURE_NETWORK` for those that prove who is there
* `discoveries`: `DISCOVERY`
* `filesystems`: `FILE_SYSTEM`
"""

from phextsync.testing.acceptance.discoveries import DISCOVERY, Discoveries
from phextsync.testing.acceptance.filesystems import FILE_SYSTEM, Ground
from phextsync.testing.acceptance.networks import NETWORK, SECURE_NETWORK, Place, Places
from phextsync.testing.acceptance.stores import STORE, Shelf

__all__ = [
    "DISCOVERY",
    "FILE_SYSTEM",
    "NETWORK",
    "SECURE_NETWORK",
    "STORE",
    "Discoveries",
    "Ground",
    "Place",
    "Places",
    "Shelf",
]
