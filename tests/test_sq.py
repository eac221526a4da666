"""SQ's REST API answers as SQ does, byte for byte, but where that is wrong or unsafe."""

import json
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate, MemoryStore, ReplicaSet, phextfile
from phextsync.gateways.exchange import Request
from phextsync.gateways.sq import MISSING, SqApi
from sims.network import Network
from tests.strategies import near_coordinates, texts

_VECTORS = Path(__file__).parent / "vectors"
_GATEWAY = (Path(__file__).parents[1] / "docs" / "reference" / "sq.md").read_text()

# Requests that are answered otherwise than SQ did; docs/reference/sq.md gives the reason of each.
DIFFERENCES: Final = {
    "GET /api/v2/status?p=notes": "An emptied scroll is not counted",
    "GET /favicon.ico?v=1": "Every request is answered",
    "GET /api/v2/select?p=test-agent&c=test-agent.1.1%2Ftest.does-not-exist%2F1.1.1": (
        "Coordinates outside 1..999 are clamped when reading"
    ),
    "HEAD /api/v2/version": "HEAD is answered as GET is",
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
    headers = tuple((name.lower(), value.strip()) for name, value in pairs)
    return Request(method, path, query, headers, step["body"]["text"].encode())


@pytest.fixture
def replicas() -> ReplicaSet:
    return _replicas(Random(1))


@pytest.fixture
def api(replicas: ReplicaSet) -> SqApi:
    return SqApi(replicas)


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


@pytest.mark.parametrize("session", [s for s in SESSIONS if key_of(s) is None], ids=name_of)
def test_a_recorded_session_is_answered_as_by_sq(session: dict[str, Any]) -> None:
    replicas = _replicas(Random(1))
    load_files(session, replicas)
    api = SqApi(replicas)
    for number, step in enumerate(session["steps"], 1):
        answer = api.answer(_request(step["request"]), number)
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
def test_reading_a_phext_does_not_make_it(api: SqApi, replicas: ReplicaSet, target: str) -> None:
    _get(api, target)
    _get(api, "update?p=x&s=")
    assert replicas.names() == []


@pytest.mark.parametrize("name", ["..", "a/b", "a%5Cb", ".clients", "%00", "a%0Ab", "x" * 256])
def test_a_name_that_is_none_is_refused(api: SqApi, replicas: ReplicaSet, name: str) -> None:
    answer = api.answer(Request("GET", "/api/v2/update", f"p={name}&s=text"))
    assert (answer.status, answer.body) == (403, b"Forbidden: invalid phext path")
    assert replicas.names() == []


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


@pytest.mark.parametrize(
    "request_",
    [
        Request("POST", "/api/v2/update", "p=n", body=b"a\xffb"),
        Request("POST", "/api/v2/insert", "p=n&content=a%FFb"),
        Request("GET", "/api/v2/update", "p=n&s=a%FFb"),
        Request("POST", "/api/v2/where", "p=n", body=b"a\xffb"),
        Request("POST", "/api/v2/delta", "p=n", body=b"a\xffb"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_not_replaced(api: SqApi, request_: Request) -> None:
    _get(api, "update?p=n&s=text")
    answer = api.answer(request_)
    expected = b"Bad Request: expected UTF-8, found byte 0xff at offset 1"
    assert (answer.status, answer.body) == (400, expected)
    assert _get(api, "select?p=n&s=a%FFb") == "text"
    assert api.answer(Request("GET", "/api/v2/update", "p=n%FF&s=x")).status == 403


@pytest.mark.parametrize(
    "place",
    [
        "7.1.2/1.1.1/20260309.1.1",
        "1.0.2/1.1.1/1.1.1",
        "1.1.1/1.1.1/1.1.1000",
        "1.1.1/1.1.1/1.1.0",
        "1..1/1.1.1/1.1.1",
        "1.1.1/1.1.1/1.1.5/",
        "1.1.1/1.1.1/1.1.item0",
        "0",
        f"1.1.1/1.1.1/1.1.{'9' * 5000}",
        "1.1.1/1.1.1/1.1.4294967297",
        "1.1.1/1.1.1/1.1.-5",
        "-5",
    ],
)
def test_a_write_to_a_coordinate_that_no_scroll_can_have_is_refused(api: SqApi, place: str) -> None:
    _get(api, "update?p=n&c=1.1.1/1.1.1/1.1.1&s=text")
    for operation in ("update", "insert", "delete"):
        answer = api.answer(Request("GET", f"/api/v2/{operation}", f"p=n&c={place}&s=other"))
        assert (answer.status, answer.has_changed) == (400, False)
        assert answer.body.startswith(b"Bad Request: expected numbers from 1 to 999 in")
        assert answer.warning.startswith(f"refused to {operation} '{place}"[:90])
    assert _get(api, "toc?p=n") == "* 1.1.1/1.1.1/1.1.1: text\n"
    _get(api, f"select?p=n&c={place}")


@pytest.mark.parametrize(
    "place", ["1.1.1/1.1.1/1.1.1/5", "x.1.1/1.1.1/1.1.1.7", "1.5.2/3.7.3/9.1.1."]
)
def test_a_write_with_more_than_nine_parts_falls_on_no_other_scroll(api: SqApi, place: str) -> None:
    for operation in ("update", "insert", "delete"):
        answer = api.answer(Request("GET", f"/api/v2/{operation}", f"p=n&c={place}&s=other"))
        assert (answer.status, answer.has_changed) == (400, False)
        assert answer.warning
    assert _get(api, "toc?p=n") == "* 1.1.1/1.1.1/1.1.1: \n"


@pytest.mark.parametrize("place", ["", "7", "2.5", "3.1.1/4.1.1", "agent.1.1/test.x/1.1.2", "word"])
def test_a_short_coordinate_or_one_with_names_may_be_written(api: SqApi, place: str) -> None:
    _get(api, f"update?p=n&c={place}&s=text")
    assert _get(api, f"select?p=n&c={place}") == "text"


@given(st.text("0159./;", max_size=40))
def test_a_coordinate_that_may_be_written_is_one_that_needs_no_clamping(place: str) -> None:
    api = SqApi(_replicas(Random(1)))
    if api.answer(Request("GET", "/api/v2/update", f"c={place}&s=x")).status == 200:
        assert Coordinate.parse_lenient(place) == Coordinate.parse_lenient(place, clamp=True)


def test_a_body_that_is_longer_than_announced_is_not_written(api: SqApi) -> None:
    for method in ("POST", "GET"):
        request = Request(method, "/api/v2/update", "p=n&s=x", body=b"ha", is_longer=True)
        answer = api.answer(request)
        assert (answer.status, answer.has_changed) == (400, False)
    assert _get(api, "select?p=n", is_longer=True) == ""


@pytest.mark.parametrize("target", ["select?p=n", "toc?p=n", "json-export?p=n", "nothing?p=n"])
def test_head_is_answered_as_get_is_where_get_reads(api: SqApi, target: str) -> None:
    _get(api, "update?p=n&s=text")
    path, _, query = target.partition("?")
    asked, looked = (Request(method, f"/api/v2/{path}", query) for method in ("GET", "HEAD"))
    assert api.answer(looked) == api.answer(asked)


@pytest.mark.parametrize("operation", ["update", "insert", "delete"])
def test_head_writes_nothing(api: SqApi, operation: str) -> None:
    _get(api, "update?p=n&s=text")
    answer = api.answer(Request("HEAD", f"/api/v2/{operation}", "p=n&s=other"))
    assert (answer.status, answer.has_changed) == (405, False)
    assert _get(api, "select?p=n") == "text"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("toc", ""),
        ("get", ""),
        ("json-export", ""),
        ("checksum", ""),
        ("status", ""),
        ("delta", "1.1.1/1.1.1/1.1.1: x\n" * 1000),
        ("where", "a\x17" * 30_000),
        ("where", "\x17\x18" * 30_000),
        ("where?algo=checksum", "a" * 600_000),
        ("where", "a" * 600_000),
        ("update", "a" * 600_000),
        ("delta", "a" * 600_000),
    ],
)
def test_work_over_much_is_done_in_many_steps(
    api: SqApi, replicas: ReplicaSet, operation: str, body: str
) -> None:
    replica = replicas.open("n")
    for number in range(1, 999):
        replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number), "text")
    replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 999), "long " * 100_000)
    path, _, query = operation.partition("?")
    method = "POST" if body else "GET"
    request = Request(method, f"/api/v2/{path}", f"p=n&{query}", body=body.encode())
    assert sum(1 for _ in api.steps(request, 1)) >= 9


@pytest.mark.parametrize("shift", range(8))
def test_a_text_is_whole_however_it_is_cut_for_its_steps(api: SqApi, shift: int) -> None:
    text = "x" * shift + "aé€\U0001f600\n" * 30_000
    request = Request("POST", "/api/v2/update", "p=n", body=text.encode())
    assert api.answer(request).body == f"Updated {len(text.encode())} bytes".encode()
    assert _get(api, "select?p=n") == text
    bad = b"x" * shift + "aé€\U0001f600\n".encode() * 9000 + b"\x80" * (shift + 1)
    answer = api.answer(Request("POST", "/api/v2/update", "p=n", body=bad))
    found = f"found byte 0x80 at offset {shift + 9000 * 11}"
    assert answer.body.decode() == f"Bad Request: expected UTF-8, {found}"


def test_checksums_are_read_from_lines_however_they_are_cut(
    api: SqApi, replicas: ReplicaSet
) -> None:
    replica = replicas.open("n")
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 2, number) for number in range(1, 900)]
    for place in places:
        replica.import_text(place, "text\n" * 40)
    lines = "".join(f"{place}: {phextfile.checksum(replica[place])}\n" for place in places)
    body = ("x" * 100_000 + "\n" + lines * 3).encode()
    assert api.answer(Request("POST", "/api/v2/delta", "p=n", body=body)).body == b""


def test_scrolls_that_are_written_between_steps_are_before_or_after(
    api: SqApi, replicas: ReplicaSet
) -> None:
    replica = replicas.open("n")
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number) for number in range(1, 500)]
    for place in places:
        replica.edit(place, "before")
    steps = api.steps(Request("GET", "/api/v2/json-export", "p=n"), 1)
    next(steps)
    for place in places[::2]:
        replica.edit(place, "after")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            rows = json.loads(end.value.body)
            break
    assert [row["coord"] for row in rows] == [str(place) for place in places]
    assert {row["scroll"] for row in rows} == {"before", "after"}
