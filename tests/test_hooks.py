"""Web hooks: what changes is posted, signed, and posted again until it is taken."""

import contextlib
import hmac
import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from phextsync import LinkError, MemoryStore, Node, PhextsyncError
from phextsync.boundaries import Boundary
from phextsync.cli.doors import hooks_of
from phextsync.gateways.guard import Guard
from phextsync.gateways.hooks import NUMBER, SIGNATURE, Hook, Target, signature
from phextsync.replica.changes import writing_as
from phextsync.replica.replicas import ReplicaSet
from phextsync.trust.permissions import UNRESTRICTED
from sims.processes import PATIENCE_S

_A = "1.1.1/1.1.1/1.1.1"
_TARGET = Target("http://localhost/hook", "secret")


class _Receiver:
    """Answers posts with statuses, 0 for no answer at all; then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.posts: list[tuple[float, dict[str, Any], Mapping[str, str]]] = []
        self._statuses = list(statuses)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        self.posts.append((trio.current_time(), json.loads(body), headers))
        assert headers[SIGNATURE] == signature("secret", body)
        status = self._statuses.pop(0) if self._statuses else 200
        if status == 0:
            raise LinkError("no answer")
        return status

    @property
    def changes(self) -> list[dict[str, str]]:
        """The changes of all posts."""
        return [row for _, body, _ in self.posts for row in body["changes"]]


def _node() -> Node:
    """A node, as far as a hook needs one."""
    replicas = ReplicaSet(
        MemoryStore(),
        node_id=bytes(16),
        random=Random(1),
        wall_time_ms=lambda: 0,
        permissions=UNRESTRICTED,
    )
    node = SimpleNamespace(
        replicas=replicas,
        identity=SimpleNamespace(name="one"),
        incarnation=bytes(16),
        boundary=Boundary(logging.getLogger("phextsync.node")),
    )
    return cast("Node", node)


async def test_changes_of_all_phexts_are_posted_those_of_new_ones_too(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, receiver = _node(), _Receiver()
    node.replicas.open("memory")
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    with writing_as("me"):
        node.replicas.phext("memory")[_A] = "text"
    await trio.sleep(1)
    node.replicas.phext("new")[_A] = "text"
    await trio.sleep(1)
    told = {"coordinate": _A, "origin": None}
    assert receiver.changes == [
        {"phext": "memory", **told, "label": "me"},
        {"phext": "new", **told, "label": ""},
    ]
    assert receiver.posts[0][1]["node"] == "one"


async def test_a_post_is_repeated_with_pauses_that_grow_until_it_is_taken(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, receiver = _node(), _Receiver(0, 500, 404)
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    node.replicas.phext("memory")[_A] = "text"
    await trio.sleep(60)
    times = [time for time, _, _ in receiver.posts]
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [1, 2, 4]
    assert len({headers[NUMBER] for _, _, headers in receiver.posts}) == 1


async def test_what_changes_while_nobody_answers_is_bounded(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, receiver = _node(), _Receiver(*[503] * 5)
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    replica = node.replicas.phext("memory")
    replica[_A] = "first"
    await trio.sleep(2)
    for number in range(5000):
        replica[f"1.1.1/1.1.{1 + number // 999}/1.1.{1 + number % 999}"] = f"text {number}"
    await trio.sleep(600)
    assert receiver.changes[-1] == {"phext": "memory", "missed": "*"}
    assert len(receiver.changes) < 20


async def test_a_post_has_few_rows_beside_those_of_the_last_phext(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, receiver = _node(), _Receiver()
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    sizes = [100] * 7 + [600]
    made = [
        (f"p{phext}", f"1.1.1/1.1.1/1.1.{1 + number}")
        for phext, size in enumerate(sizes)
        for number in range(size)
    ]
    for phext, place in made:
        node.replicas.phext(phext)[place] = "text"
    await trio.sleep(60)
    assert [(row["phext"], row["coordinate"]) for row in receiver.changes] == made
    assert [len(body["changes"]) for _, body, _ in receiver.posts] == [500, 800]


async def test_a_receiver_that_is_gone_is_asked_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, receiver = _node(), _Receiver(410)
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    for text in ("one", "two"):
        node.replicas.phext("memory")[_A] = text
        await trio.sleep(60)
    assert len(receiver.posts) == 1


async def test_an_error_of_a_hook_ends_no_node_and_it_goes_on(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, receiver = _node(), _Receiver()
    nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
    with monkeypatch.context() as broken:
        broken.setattr("phextsync.gateways.hooks.signature", lambda *_: 1 / 0)
        node.replicas.phext("memory")[_A] = "text"
        await trio.sleep(1)
    node.replicas.phext("memory")[_A] = "other"
    await trio.sleep(60)
    assert [row["coordinate"] for row in receiver.changes] == [_A]


@pytest.mark.real
async def test_a_post_over_http_is_signed_and_follows_no_redirect() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    heard: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        data = b""
        while not data.endswith(b"}"):
            data += await stream.receive_some()
        heard.append(data)
        await stream.send_all(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        body = b"{}"
        target = Target(f"http://127.0.0.1:{port}/hook?a=b", "secret")
        status = await target.post(body, {SIGNATURE: signature("secret", body)})
        nursery.cancel_scope.cancel()
    assert status == 302
    head = heard[0].decode()
    assert head.startswith("POST /hook?a=b HTTP/1.1\r\n")
    proof = hmac.new(b"secret", body, "sha256").hexdigest()
    assert f"{SIGNATURE}: sha256={proof}" in head
    assert "User-Agent: phextsync\r\n" in head
    with pytest.raises(LinkError, match="no answer"):
        await target.post(body, {})


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://host/", "http://", "http://host:x/", "http://h/\r\nX: y", "http://h/ x"],
)
def test_what_is_no_address_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(PhextsyncError, match="expected an address of http or https"):
        Target(url, "secret")


def test_what_is_secret_in_an_address_is_refused_or_not_shown() -> None:
    with pytest.raises(PhextsyncError, match="without a user and a password") as refused:
        Target("http://me:hidden@host:1/", "secret")
    assert "hidden" not in str(refused.value)
    target = Target("https://host:1/hooks/hidden?token=hidden", "unseen")
    assert target.place == "https://host:1"
    assert "unseen" not in repr(target)


def test_a_secret_is_the_text_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes("  na\u00efve \u00e0\r\n".encode())
    (target,) = hooks_of(["https://host/"], file)
    assert target.secret == "na\u00efve \u00e0"
    file.write_bytes(b"a\xff")
    with pytest.raises(PhextsyncError, match="expected UTF-8 in"):
        hooks_of(["https://host/"], file)


async def test_a_hook_that_fails_is_logged_without_what_is_secret_in_its_address(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = _node()
    receiver = _Receiver(500, 410)
    target = Target("https://host/hooks/hidden", "secret")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Hook(node, target, receiver.post).run)
        await trio.testing.wait_all_tasks_blocked()
        node.replicas.phext("memory")[_A] = "text"
        await trio.sleep(60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("https://host" in line and "hidden" not in line for line in lines)


@pytest.mark.real
async def test_an_answer_that_never_ends_ends_its_post_and_the_next_one_is_made() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    is_first = True

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal is_first
        if not is_first:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            return
        is_first = False
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        target = Target(f"http://127.0.0.1:{port}", "secret", timeout_s=1.0)
        with trio.fail_after(PATIENCE_S):
            with pytest.raises(LinkError, match="no answer"):
                await target.post(b"{}", {})
            status = 0
            while status != 200:  # on a busy machine one may be late
                with contextlib.suppress(LinkError):
                    status = await target.post(b"{}", {})
        nursery.cancel_scope.cancel()


_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.real
@pytest.mark.parametrize(
    ("scheme", "begin", "piece"),
    [
        ("http", b"", b"H"),  # a status without an end
        ("http", _HEAD, b"x"),  # a header without an end
        ("http", _HEAD, b"x: y\r\n"),  # headers without an end
        ("http", b"", b""),  # nothing
        ("https", b"", b""),  # no handshake
        ("https", b"\x16\x03\x03\x40\x00", b"\x02"),  # one without an end
    ],
)
@pytest.mark.parametrize("is_slow", [False, True])
async def test_what_is_no_answer_or_comes_slowly_ends_its_post(
    scheme: str, begin: bytes, piece: bytes, is_slow: bool
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    sent = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal sent
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(begin)
            while piece:
                await stream.send_all(piece if is_slow else 4096 * piece)
                sent += len(piece if is_slow else 4096 * piece)
                await trio.sleep(0.01 if is_slow else 0)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        target = Target(f"{scheme}://127.0.0.1:{port}", "secret", timeout_s=0.5)
        with trio.fail_after(PATIENCE_S):
            with pytest.raises(LinkError, match=r"^no answer[^\n]*$"):
                await target.post(b"{}", {})
            async with target._one:  # the thread has ended
                pass
        nursery.cancel_scope.cancel()
    assert sent < 64 << 20  # what a socket takes, and not what anybody keeps


async def test_a_hook_that_is_never_answered_is_a_few_lines_of_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node, receiver = _node(), _Receiver(*[0] * 10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Hook(node, _TARGET, receiver.post).run)
        for _ in range(24):
            node.replicas.phext("memory")[_A] = f"{len(receiver.posts)}"
            await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert 250 < len(receiver.posts) < 350
    assert len(caplog.records) <= 24


@pytest.mark.parametrize("token", [None, "secret"])
def test_what_a_hook_posts_comes_in_at_no_door_of_a_node(token: str | None) -> None:
    """Else each of its posts would be a change that it posts."""
    guard = Guard(token)
    headers = [("Host", "localhost"), ("Authorization", "Bearer secret")]
    assert guard.refusal("POST", headers) is None
    refused = guard.refusal("POST", [*headers, (NUMBER, "ab-1")])
    assert refused is not None
    assert (refused.status, "posted again" in refused.reason) == (403, True)
