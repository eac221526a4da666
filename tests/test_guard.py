"""The guard lets in the token's holders, or this machine's programs and pages, and nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import LinkError, PhextsyncError
from phextsync.gateways.guard import Guard, own_names

_OWN = {"desk.example.org", "desk", "desk.local", "192.168.1.5", "fe80::1"}
_OPEN = Guard(own_names=lambda: _OWN, allowed_hosts=["Notes.Example", "[2001:DB8::7]"])
_CLOSED = Guard("right", own_names=lambda: _OWN)


def _status(guard: Guard, method: str = "GET", *, writes: bool = False, **lines: str) -> int:
    """Return the status of a refusal, 200 for none."""
    headers = [(name.replace("_", "-"), value) for name, value in lines.items()]
    refused = guard.refusal(method, headers, writes=writes)
    return 200 if refused is None else refused.status


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:1337", "localhost.", "a.localhost", "127.0.0.1:80", "127.8.9.1"),
        *(
            "[::1]",
            "[0:0::1]:1337",
            "[::ffff:127.0.0.1]",
            "desk",
            "desk.local:1",
            "DESK.example.org",
        ),
        *("192.168.1.5", "[fe80::1%25eth0]:1", "notes.example:443", "[2001:db8:0::7]"),
    ],
)
def test_this_machine_may_be_asked_by_its_names(host: str) -> None:
    assert _status(_OPEN, host=host) == 200
    assert _status(_OPEN, origin=f"http://{host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "desk.evil", "0.0.0.0", "192.168.1.6", "x"),
        *("", "localhost:1:2", "a@localhost", "[::1", "::1", "[::2]", "[:]"),
        *("localhost:8x", "localhost:65536", "localhost:-1", "localhost:\u0663", "[::1]:x"),
        *("localhost/", "localhost\x00", "lo calhost", "localhosté", "127.0.0.1.evil.example"),
    ],
)
def test_another_or_an_unreadable_host_is_refused(host: str) -> None:
    assert _status(_OPEN, host=host) == 403
    assert _status(_OPEN, "OPTIONS", host=host) == 403
    assert _status(_OPEN, origin=f"http://{host}") == 403


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "://", "http://", "http://[", "http:// localhost", "http://a:b", "file://"),
        *("localhost", "*"),
    ],
)
def test_an_origin_that_names_no_page_of_this_machine_is_refused(origin: str) -> None:
    assert _status(_OPEN, origin=origin) == 403
    assert _status(_OPEN, "POST", origin=origin) == 403


def test_a_preflight_is_answered_wherever_its_page_is_from() -> None:
    assert _status(_OPEN, "OPTIONS", origin="http://evil.example", sec_fetch_site="x") == 200
    assert _status(_CLOSED, "OPTIONS") == 200


@pytest.mark.parametrize(
    ("site", "reads", "writes"),
    [
        ("none", 200, 200),
        ("same-origin", 200, 200),
        ("same-site", 200, 403),  # of another port of this machine
        ("cross-site", 403, 403),
        ("Same-Origin", 403, 403),
        ("", 403, 403),
        ("none, none", 403, 403),
    ],
)
def test_what_a_page_sends_by_itself_writes_nothing(site: str, reads: int, writes: int) -> None:
    assert _status(_OPEN, sec_fetch_site=site) == reads
    assert _status(_OPEN, writes=True, sec_fetch_site=site) == writes
    for method in ("POST", "PUT", "DELETE", "PATCH", "X"):
        assert _status(_OPEN, method, sec_fetch_site=site) == writes


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        *((f"http{s}://localhost:80", 200) for s in ("", "s")),
        *((f"http://{host}", 403) for host in ("localhost", "localhost:81", "127.0.0.1:80")),
    ],
)
def test_only_a_page_of_the_very_origin_that_is_asked_may_write(origin: str, status: int) -> None:
    host = "LOCALHOST:80"
    assert _status(_OPEN, host=host, origin=origin) == 200
    assert _status(_OPEN, "HEAD", host=host, origin=origin) == 200
    assert _status(_OPEN, writes=True, host=host, origin=origin) == status
    assert _status(_OPEN, "POST", host=host, origin=origin) == status
    assert _status(_OPEN, "POST", origin=origin) == 403  # of where it is sent to nothing is known


@pytest.mark.parametrize("name", ["host", "origin", "sec-fetch-site"])
def test_of_two_lines_a_good_one_excuses_no_bad_one(name: str) -> None:
    good = {"host": "localhost", "origin": "http://localhost", "sec-fetch-site": "none"}[name]
    for pair in ((good, "evil.example"), ("evil.example", good)):
        assert _OPEN.refusal("GET", [(name.upper(), value) for value in pair]) is not None


def test_programs_that_are_no_browser_notice_nothing() -> None:
    assert _status(_OPEN) == _status(_OPEN, writes=True) == _status(_OPEN, "POST") == 200


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        *((value, 200) for value in ("right", "Bearer right", "bearer   right", " BEARER right ")),
        *((value, 401) for value in ("", "wrong", "Bearer", "Bearer Right", "Basic right")),
        *((value, 401) for value in ("wrong, Bearer right", "right right", "rightx", "é")),
    ],
)
def test_a_token_has_to_be_shown_whole(shown: str, status: int) -> None:
    assert _status(_CLOSED, authorization=shown) == status
    assert _status(_CLOSED, "POST", writes=True, authorization=shown) == status


def test_a_token_may_be_shown_as_the_key_of_an_api() -> None:
    assert _status(_CLOSED, x_api_key="right") == 200
    assert _status(_CLOSED, x_api_key="right", authorization="Bearer of another service") == 200
    assert _status(_CLOSED, x_api_key="wrong") == 401
    assert _status(_CLOSED, x_api_key="wrong", authorization="Bearer of another service") == 401


def test_who_shows_the_token_may_ask_from_anywhere() -> None:
    foreign = {"host": "evil.example", "origin": "null", "sec_fetch_site": "cross-site"}
    assert _status(_CLOSED, writes=True, authorization="right", **foreign) == 200
    assert _status(_CLOSED, writes=True, **foreign) == 401


def test_a_token_may_have_any_characters() -> None:
    for token in ("a:b", "käse", "\U0001f511"):
        sent = token.encode().decode("latin-1")
        assert _status(Guard(token), authorization=f"Bearer {sent}") == 200


@pytest.mark.parametrize("line", ["Authorization", "X-Api-Key"])
@pytest.mark.parametrize("guard", [_OPEN, _CLOSED])
def test_of_two_authorizations_none_is_chosen(guard: Guard, line: str) -> None:
    for pair in (("wrong", "Bearer right"), ("Bearer right", "wrong"), ("right", "Bearer right")):
        refused = guard.refusal("GET", [(line, value) for value in pair])
        assert refused is not None
        assert refused.status == 400
    assert _CLOSED.refusal("GET", [("authorization", "right")] * 2) is None


_values = st.text(st.characters(max_codepoint=255), max_size=20) | st.sampled_from(
    ["http://[", "localhost", "http://localhost", "null", "none", "Bearer "]
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["host", "origin", "sec-fetch-site", "authorization"]), _values),
        max_size=4,
    ),
    st.booleans(),
)
def test_whatever_is_sent_is_let_in_or_refused(lines: list[tuple[str, str]], writes: bool) -> None:
    for guard in (_OPEN, _CLOSED):
        refused = guard.refusal("GET", lines, writes=writes)
        assert refused is None or refused.status in (400, 401, 403)


def test_only_loopback_may_be_served_without_a_token() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        _OPEN.check_address(host)
    for host in ("0.0.0.0", "192.168.1.5", "desk"):
        with pytest.raises(LinkError, match="a loopback address for HTTP without a token"):
            _OPEN.check_address(host)
        _CLOSED.check_address(host)


def test_a_name_to_allow_that_is_none_is_refused() -> None:
    with pytest.raises(PhextsyncError, match="the name of a host to allow, found 'http://x'"):
        Guard(allowed_hosts=["http://x"])


def test_this_machine_knows_its_names() -> None:
    names = own_names()
    assert any(name.endswith(".local") for name in names)
    assert "127.0.0.1" in names


def test_a_seal_is_whole_or_none() -> None:
    guard = Guard("secret")
    seal = guard.seal("a person")
    assert guard.is_seal("a person", seal)
    for other in (
        "",
        seal[:-1],
        seal + "0",
        guard.seal("another"),
        Guard("other").seal("a person"),
    ):
        assert not guard.is_seal("a person", other)


def test_what_a_browser_sends_by_itself_counts_for_one_host_alone() -> None:
    guard = Guard("secret")
    own = [("Host", "here:1"), ("Sec-Fetch-Site", "same-origin")]
    assert guard.refusal_of_page(own) is None
    for others in ([("Host", "there:1")], [("Sec-Fetch-Site", "cross-site")]):
        assert guard.refusal_of_page([*own, *others]) is not None
    assert guard.refusal_of_page(own[1:]) is not None
