"""The web server: page, API, events, login, and who may come in, on real sockets."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from phextsync.web.api import ENDPOINTS, PREFIX, Api, description
from phextsync.web.elsewhere import Elsewhere
from phextsync.web.limits import WebLimits
from tests.web_nodes import AT, BROWSER, HOST, ask, make_identity, web_node

pytestmark = pytest.mark.real

_SCROLL = f"/api/v1/phexts/memory/scrolls/{AT}"


async def test_a_scroll_is_read_and_written_over_the_api(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        assert (await ask(port, "GET", _SCROLL))[0] == 404
        assert (await ask(port, "PUT", _SCROLL, "Grüße".encode()))[0] == 200
        assert not node.replicas.is_dirty
        status, headers, body = await ask(port, "GET", _SCROLL)
        assert (status, body.decode()) == (200, "Grüße")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        seen = {"If-Match": headers["etag"]}
        assert (await ask(port, "POST", _SCROLL, b"!"))[0] == 200
        assert (await ask(port, "PUT", _SCROLL, b"mine", seen))[0] == 412
        assert node.phext()[AT] == "Grüße!"
        status, _, body = await ask(port, "GET", "/api/v1/phexts/memory/scrolls?range=1.1.*")
        found = {"coordinate": AT, "size": 8, "first_line": "Grüße!"}
        assert json.loads(body) == {"rows": [found], "after": None, "missing": []}
        status, _, body = await ask(port, "GET", f"/api/v1/phexts/memory/history/{AT}?last=1")
        assert json.loads(body)[0]["line"] == "Grüße!"
        status, _, body = await ask(port, "GET", "/api/v1/phexts/memory/search?words=gr%C3%BC*")
        assert status == 200
        near = f"/api/v1/phexts/memory/near/{AT}"
        status, _, body = await ask(port, "GET", f"{near}?count=1")
        assert json.loads(body) == {"hits": [{"distance": 0, **found}], "missing": []}
        status, _, body = await ask(port, "GET", f"{near}?itself=false")
        assert json.loads(body) == {"hits": [], "missing": []}
        assert (await ask(port, "GET", f"{near}?itself=x"))[0] == 400
        assert (await ask(port, "DELETE", _SCROLL))[2] == b"true"
        assert AT not in node.phext()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("PUT", _SCROLL, b"a\0b", 422, "zero byte"),
        ("PUT", _SCROLL, b"\xff", 422, "UTF-8"),
        ("PUT", "/api/v1/phexts/memory/scrolls/1.2", b"x", 400, "1.2"),
        ("GET", "/api/v1/phexts/.clients/scrolls", b"", 400, "library"),
        ("GET", "/api/v1/phexts/memory/search", b"", 400, "expected words in the query"),
        ("GET", "/api/v1/phexts/memory/search?words=a&limit=x", b"", 400, "expected a number"),
    ],
)
async def test_what_cannot_be_done_is_said_with_its_reason(
    method: str, path: str, body: bytes, status: int, told: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        found, _, answer = await ask(port, method, path, body)
        assert found == status
        assert told in json.loads(answer)["error"]
        assert node.replicas.names() == []


def test_the_description_names_every_endpoint_with_the_words_of_its_operation() -> None:
    told = json.loads(json.dumps(description()))
    for endpoint in ENDPOINTS:
        row = told["paths"][endpoint.path.replace(":path", "")][endpoint.method.lower()]
        assert row["summary"] == endpoint.operation.about
        named = {each["name"] for each in row["parameters"]}
        named -= {"If-Match", "If-None-Match"}
        assert named == {given.name for given in endpoint.given if given.place != "body"}
        assert len(endpoint.given) <= len(endpoint.operation.arguments)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_nothing_is_written_over_what_the_client_has_not_seen(
    method: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):

        async def write(**conditions: str) -> int:
            named = {name.replace("_", "-"): value for name, value in conditions.items()}
            return (await ask(port, method, _SCROLL, b"mine", named))[0]

        node.phext()[AT] = "old"
        old = (await ask(port, "GET", _SCROLL))[1]["etag"]
        node.phext()[AT] = "new"
        new = (await ask(port, "GET", _SCROLL))[1]["etag"]
        assert await write(If_Match=old) == 412
        assert await write(If_None_Match="*") == 412
        for unread in ("", '""', "*", f"W/{new}", f"{new}, {old}", "x"):
            assert await write(If_Match=unread) == 400
        assert await write(If_None_Match=new) == 400
        assert await write(If_None_Match="*", If_Match=new) == 400
        assert node.phext()[AT] == "new"
        assert await write(If_Match=new) == 200
        node.phext()[AT] = ""
        assert await write(If_None_Match="*") == 200


async def test_what_a_client_knows_is_not_sent_again(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "text"
        tag = (await ask(port, "GET", _SCROLL))[1]["etag"]
        for known, status in (
            (tag, 304),
            (f'"x", {tag}', 304),
            (f"W/{tag}", 304),
            ("*", 304),
            ('"x"', 200),
        ):
            found, headers, _ = await ask(port, "GET", _SCROLL, headers={"If-None-Match": known})
            assert (found, headers["etag"]) == (status, tag)


async def _status(port: int, method: str, path: str, row: Any, given: dict[str, str]) -> int:
    """Return the status of an answer whose type has to be one that the description has."""
    target = f"{PREFIX}{path}?{urlencode(given)}".format_map(given)
    status, headers, _ = await ask(port, method.upper(), target)
    told = row["responses"].get(str(status), row["responses"]["default"])["content"]
    assert headers["content-type"].partition(";")[0] in told, target
    return status


async def test_the_description_is_true_of_every_route(tmp_path: Path) -> None:
    told = json.loads(json.dumps(description()))["paths"]
    rows = [(path, *each) for path, methods in told.items() for each in methods.items()]
    values = {"phext": "memory", "coordinate": AT.replace("/", "%2F"), "words": "a", "time_ms": "1"}
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        routes = {
            (route.path.removeprefix(PREFIX).replace(":path", ""), method.lower())
            for route in Api(node).routes()
            for method in (route.methods or set()) - {"HEAD"}
        }
        assert routes == {("/openapi.json", "get"), *((path, method) for path, method, _ in rows)}
        for path, method, row in rows:
            places = {each["name"]: each for each in row["parameters"] if each["in"] != "header"}
            asked = {name: values[name] for name in places if places[name]["required"]}
            assert await _status(port, method, path, row, asked) in (200, 404)
            for name, place in places.items():
                kind = place["schema"]["type"]
                if place["in"] == "query" and place["required"]:
                    without = {each: asked[each] for each in asked if each != name}
                    assert await _status(port, method, path, row, without) == 400
                if kind != "string":
                    assert await _status(port, method, path, row, {**asked, name: "x"}) == 400
                    status = await _status(port, method, path, row, {**asked, name: ""})
                    assert status == (200 if place.get("allowEmptyValue") else 400)
                if "default" in place["schema"]:
                    given = str(place["schema"]["default"]).lower()
                    status = await _status(port, method, path, row, {**asked, name: given})
                    assert status == 200


async def test_an_error_in_telling_of_editors_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_failed = trio.Event()

    async def fail(_: Elsewhere) -> None:
        has_failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(Elsewhere, "run", fail)
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        await has_failed.wait()
        assert (await ask(port, "GET", "/health"))[0] == 200


async def test_events_tell_of_changes_until_the_client_leaves(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(f"GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            heard = b""
            while b":\n\n" not in heard:
                heard += await stream.receive_some()
            node.phext()[AT] = "text"
            while b"event: change" not in heard:
                heard += await stream.receive_some()
            assert f'"coordinate": "{AT}"'.encode() in heard
        while node.phext().statistics().subscribers:
            await trio.lowlevel.checkpoint()


async def test_head_is_answered_wherever_get_is_and_ends(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "text"
        for path in ("/", "/health", "/metrics", "/events", "/api/v1/phexts", _SCROLL):
            status, headers, body = await ask(port, "HEAD", path)
            assert (status, body) == (200, b"")
            assert headers["content-type"]


async def test_with_a_token_a_person_logs_in_and_a_program_shows_it(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (_, port):
        assert (await ask(port, "GET", "/api/v1/status"))[0] == 401
        assert (await ask(port, "GET", "/health"))[0] == 200
        shown = {"Authorization": "Bearer secret"}
        assert (await ask(port, "GET", "/api/v1/status", headers=shown))[0] == 200
        status, headers, _ = await ask(port, "GET", "/", headers=BROWSER)
        assert (status, headers["location"]) == (303, "/login")
        assert (await ask(port, "POST", "/login", b"token=wrong"))[0] == 401
        status, headers, _ = await ask(port, "POST", "/login", b"token=secret")
        assert (status, headers["location"]) == (303, "/")
        cookie, _, kept = headers["set-cookie"].partition("; ")
        assert "HttpOnly" in kept
        assert "SameSite=Strict" in kept
        own = {"Cookie": cookie, "Origin": f"http://{HOST}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert (await ask(port, "PUT", _SCROLL, b"text", own))[0] == 200
        assert (await ask(port, "GET", "/", headers={"Cookie": cookie[:-1] + "x"}))[0] == 401


@pytest.mark.parametrize(
    "of_another",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{HOST}:1"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_cookie_counts_from_pages_of_its_own_origin_alone(
    of_another: dict[str, str], tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (node, port):
        _, headers, _ = await ask(port, "POST", "/login", b"token=secret")
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        assert (await ask(port, "GET", "/", headers=cookie))[0] == 200
        for method, path in (("GET", "/"), ("PUT", _SCROLL), ("POST", "/login")):
            assert (await ask(port, method, path, b"x", {**cookie, **of_another}))[0] == 403
        upgrade = {**_UPGRADE, **cookie, **of_another}
        assert (await ask(port, "GET", f"/sync/memory/{AT}", headers=upgrade))[0] == 403
        assert AT not in node.phext()


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-WebSocket-Version": "12"}, 400),
        ({"Connection": "keep-alive"}, 404),  # which asks for nothing else than HTTP
        ({"Content-Length": "5"}, 400),
    ],
)
async def test_pages_of_others_open_no_web_socket(
    more: dict[str, str], status: int, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        asked = {**_UPGRADE, **more}
        assert (await ask(port, "GET", f"/sync/memory/{AT}", headers=asked))[0] == status


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000,
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PUT /api/v1/phexts/%%ff/scrolls/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % AT.encode(),
        b"PUT %s HTTP/1.1\r\nHost: localhost\r\n" % _SCROLL.encode()
        + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
async def test_what_is_no_request_or_too_large_ends_its_own_connection(
    sent: bytes, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(sent)
            answer = await stream.receive_some()
            assert answer.startswith((b"HTTP/1.1 4",))
        assert (await ask(port, "GET", "/health"))[0] == 200


async def test_a_connection_serves_one_request_after_another(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port), await trio.open_tcp_stream(HOST, port) as stream:
        for _ in range(3):
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # the last of its JSON
                answer += bytes(await stream.receive_some()) or b"closed}"
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert not answer.endswith(b"closed}")


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, limits=WebLimits(body_bytes_max=1000)) as (node, port):
        assert (await ask(port, "PUT", _SCROLL, b"x" * 1001))[0] == 413
        assert AT not in node.phext()


@pytest.mark.parametrize("package", ["starlette", "rich.console", "rich.progress"])
def test_what_a_command_may_not_need_is_imported_by_what_needs_it(package: str) -> None:
    script = f"import sys, phextsync.cli.main; print({package!r} in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert answer.stdout == b"False\n"
