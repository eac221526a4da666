"""SQ's REST API answers as SQ does, byte for byte, but where that is wrong or unsafe."""

import json
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate, MemoryStore, ReplicaSet, phextfile
from phextsync.sq import MISSING, Request, SqApi
from sims.network import Network
from tests.strategies import near_coordinates, texts

_VECTORS = Path(__file__).parent / "vectors"
_GATEWAY = (Path(__file__).parents[1] / "docs" / "gateway.md").read_text()

# Requests that are answered otherwise than SQ did; docs/gateway.md gives the reason of each.
DIFFERENCES: Final = {
    "GET /api/v2/status?p=notes": "An emptied scroll is not counted",
    "GET /favicon.ico?v=1": "Every request is answered",
    "GET /api/v2/select?p=test-agent&c=test-agent.1.1%2Ftest.does-not-exist%2F1.1.1": (
        "Coordinates outside 1..999 are clamped"
    ),
    "GET /api/v2/json-export?p=poems": "`json-export` is in the order of coordinates",
}


def recorded(file: str, key: str) -> list[dict[str, Any]]:
    """Return the recorded sessions of a file, each with its exchanges as `steps`."""
    sessions: list[dict[str, Any]] = json.loads((_VECTORS / file).read_text())[key]
    return [{**s, "steps": s.get("steps") or s["exchanges"]} for s in sessions]


SESSIONS: Final = [
    *recorded("sq_transcripts.json", "sessions"),
    *recorded("sq_client_requests.json", "clients"),
]


def key_of(session: dict[str, Any]) -> str | None:
    """Return the token that the server of a session asks for."""
    arguments = session.get("server_args", ())
    if "--key" in arguments:
        return str(arguments[arguments.index("--key") + 1])
    return session.get("key")


def load_files(session: dict[str, Any], replicas: ReplicaSet) -> None:
    """Give the phexts of a session the texts of its files."""
    for path, text in session["initial_files"].items():
        replica = replicas.open(Path(path).stem)
        for coordinate, scroll in phextfile.explode(text).items():
            replica.edit(coordinate, scroll)


def name_of(session: dict[str, Any]) -> str:
    return str(session.get("session") or session["client"])


def _replicas(seed: Random) -> ReplicaSet:
    return ReplicaSet(MemoryStore(), node_id=bytes(16), random=seed, wall_time_ms=lambda: 0)


def _request(step: dict[str, Any]) -> Request:
    method, target, _ = step["line"].split(" ")
    path, _, query = target.partition("?")
    pairs = (line.split(":", 1) for line in step["headers"])
    headers = {name.lower(): value.strip() for name, value in pairs}
    return Request(method, path, query, headers, step["body"]["text"].encode())


@pytest.fixture
def api() -> SqApi:
    return SqApi(_replicas(Random(1)))


def _get(api: SqApi, target: str, **more: Any) -> str:
    path, _, query = target.partition("?")
    answer = api.answer(Request("GET", f"/api/v2/{path}", query, **more))
    assert answer.status == 200, answer
    return answer.body.decode()


def _post(api: SqApi, target: str, body: str) -> str:
    path, _, query = target.partition("?")
    answer = api.answer(Request("POST", f"/api/v2/{path}", query, body=body.encode()))
    assert answer.status == 200, answer
    return answer.body.decode()


@pytest.mark.parametrize("session", SESSIONS, ids=name_of)
def test_a_recorded_session_is_answered_as_by_sq(session: dict[str, Any]) -> None:
    replicas = _replicas(Random(1))
    load_files(session, replicas)
    api = SqApi(replicas, token=key_of(session))
    for step in session["steps"]:
        answer = api.answer(_request(step["request"]))
        line = step["request"]["line"].removesuffix(" HTTP/1.1")
        found = (answer.status, answer.body.decode())
        response = step["response"]
        wanted = None if "none" in response else (response["status"], response["body"]["text"])
        if found != wanted:
            assert line in DIFFERENCES, f"{line}: expected {wanted}, found {found}"


@pytest.mark.parametrize("reason", sorted(set(DIFFERENCES.values())))
def test_each_difference_is_documented(reason: str) -> None:
    assert reason in _GATEWAY


_scrolls = st.dictionaries(near_coordinates, texts.filter(bool), max_size=6)


@given(_scrolls)
def test_what_was_written_is_given_in_every_form(scrolls: dict[Coordinate, str]) -> None:
    api = SqApi(_replicas(Random(1)))
    for coordinate, text in scrolls.items():
        size = len(text.encode())
        assert _post(api, f"update?p=n&c={coordinate.url}", text) == f"Updated {size} bytes"
    canonical = phextfile.implode(scrolls)
    assert {c: _get(api, f"select?p=n&c={c}") for c in scrolls} == scrolls
    assert _get(api, "get?p=n") == _get(api, "delta?p=n") == canonical
    assert _get(api, "checksum?p=n") == phextfile.checksum(canonical)
    assert _get(api, "toc?p=n") == (phextfile.textmap(canonical) or "* 1.1.1/1.1.1/1.1.1: \n")
    status = _get(api, "status?p=n").splitlines()
    assert status[2:] == [
        f"Phext Size: {len(canonical.encode())}",
        f"Scrolls: {len(scrolls) or 1}",
    ]
    rows = json.loads(_get(api, "json-export?p=n"))
    assert {row["coord"]: row["scroll"] for row in rows if row["scroll"]} == {
        str(c): text for c, text in scrolls.items()
    }


@given(_scrolls, _scrolls)
def test_a_client_that_posts_its_checksums_gets_what_it_lacks_and_is_asked_for_the_rest(
    ours: dict[Coordinate, str], theirs: dict[Coordinate, str]
) -> None:
    api = SqApi(_replicas(Random(1)))
    for coordinate, text in ours.items():
        _post(api, f"update?p=n&c={coordinate}", text)
    manifest = "".join(f"{c}: {phextfile.checksum(text)}\n" for c, text in theirs.items())
    answer = phextfile.explode(_post(api, "delta?p=n", manifest) if manifest else "")
    if manifest:
        changed = {c: text for c, text in ours.items() if theirs.get(c) != text}
        assert answer == changed | {c: MISSING for c in theirs if c not in ours}


def test_two_clients_on_two_machines_do_not_overwrite_each_other() -> None:
    network = Network(2)
    apis = [SqApi(peer.replicas) for peer in network.peers]
    target = "update?p=memory&c=1.1.1/1.1.1/1.1.1"
    _post(apis[0], target, "milk\nbread\n")
    link = network.link(0, 1)
    network.run(2)
    network.cut(link)
    _post(apis[0], target, "milk\nbread\nbutter\n")
    _post(apis[1], target, "salt\nmilk\nbread\n")
    network.link(0, 1)
    network.run(2)
    for api in apis:
        assert _get(api, "select?p=memory") == "salt\nmilk\nbread\nbutter\n"


@pytest.mark.parametrize("target", ["select?p=x", "toc?p=x", "status?p=x", "delete?p=x", "get?p=x"])
def test_reading_a_phext_does_not_make_it(api: SqApi, target: str) -> None:
    _get(api, target)
    _get(api, "update?p=x&s=")
    assert api._replicas.names() == []


@pytest.mark.parametrize("name", ["..", "a/b", "a%5Cb", ".clients", "%00", "a%0Ab", "x" * 256])
def test_a_name_that_is_none_is_refused(api: SqApi, name: str) -> None:
    answer = api.answer(Request("GET", "/api/v2/update", f"p={name}&s=text"))
    assert (answer.status, answer.body) == (403, b"Forbidden: invalid phext path")
    assert api._replicas.names() == []


def test_a_text_with_breaks_is_refused_and_changes_nothing(api: SqApi) -> None:
    _get(api, "update?p=n&s=text")
    answer = api.answer(Request("POST", "/api/v2/update", "p=n", body=b"a\x17b"))
    assert answer.status == 400
    assert b"a scroll break" in answer.body
    assert not answer.has_changed
    for operation in ("update", "insert"):
        answer = api.answer(Request("POST", f"/api/v2/{operation}", "p=n", body=b"two\0two"))
        assert answer.status == 400
        assert b"a zero byte (U+0000) at offset 3" in answer.body
        assert not answer.has_changed
    assert _get(api, "select?p=n") == "text"


@pytest.mark.parametrize(
    ("target", "has_changed"),
    [("insert?p=n&s=x", True), ("update?p=n&s=x", True), ("delete?p=n", True), ("toc?p=n", False)],
)
def test_an_answer_says_whether_the_disk_has_to_be_waited_for(
    api: SqApi, target: str, has_changed: bool
) -> None:
    path, _, query = target.partition("?")
    assert api.answer(Request("GET", f"/api/v2/{path}", query)).has_changed is has_changed


def test_bytes_that_are_not_utf8_become_replacement_characters(api: SqApi) -> None:
    api.answer(Request("POST", "/api/v2/update", "p=n", body=b"a\xffb"))
    assert _get(api, "select?p=n") == "a\ufffdb"
