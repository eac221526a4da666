"""What a node remembers of whom it has met is bounded."""

from types import SimpleNamespace
from typing import cast

import pytest

from phextsync.discovery import RememberedPeers
from phextsync.node import acquaintances
from phextsync.node.acquaintances import Acquaintances
from phextsync.transport import SecureLink
from phextsync.trust.known_peers import KnownPeers


def test_refusals_that_were_told_are_bounded_and_each_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acquaintances, "certificate_permissions", lambda _: None)
    known = SimpleNamespace(peers=list, admit=lambda *_: "it is blocked")
    met = Acquaintances(
        bytes(16), cast("KnownPeers", known), RememberedPeers(), wall_time_s=lambda: 0.0
    )
    for number in range(1, 1000):
        link = SimpleNamespace(
            peer_id=number.to_bytes(16, "big"), peer_name="x", address="a", certificate=b""
        )
        for _ in range(2):
            assert met.judge(cast("SecureLink", link))[1] == "it is blocked"
        assert len(met._last_refusals) <= acquaintances._REFUSALS_MAX
    assert len(caplog.records) == 999
