"""What Anthropic's client asks of memory stores is answered as it was when it was recorded."""

import pytest

from tests.memory_calls import Names, record, recorded, replay


def test_recorded_calls_are_answered_as_they_were() -> None:
    calls = recorded()["calls"]
    for now, then in zip(replay(calls), calls, strict=True):
        assert now == then


def test_the_client_asks_what_was_recorded_and_is_answered_so() -> None:
    for now, then in zip(record(), recorded()["calls"], strict=True):
        assert now == then


def test_calls_of_each_kind_are_recorded() -> None:
    calls = recorded()["calls"]
    assert {call["status"] for call in calls} == {200, 400, 404, 409, 501}
    kinds = {(call["method"], call["path"].partition("?")[0]) for call in calls}
    store, memory = "/v1/memory_stores/{memstore1}", "/memories/{mem1}"
    version = "/memory_versions/{memver1}"
    assert kinds >= {
        *((method, store) for method in ("GET", "POST")),
        *((method, store + memory) for method in ("GET", "POST", "DELETE")),
        *((method, store + "/memories") for method in ("GET", "POST")),
        ("GET", store + version),
        ("POST", store + version + "/redact"),
        ("POST", store + "/archive"),
    }


@pytest.mark.parametrize("text", ["x" * 32, "0" * 31, "2cae537c35044b0babbf40e91734ac01" * 2])
def test_what_only_looks_like_an_id_has_no_name(text: str) -> None:
    assert Names().named([text]) == [text]
