"""`doctor` says what is in a node's way, and what to do about it, from facts alone."""

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest
from typer.testing import CliRunner

from phextsync.cli import checks
from phextsync.cli.checks import CHECKS, Facts, Finding, Level, findings
from phextsync.cli.facts import gather
from phextsync.cli.main import app
from phextsync.control.status import AbsentRow, DirectoryRow, ErrorsRow, PeerRow, Status, StoreRow
from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import CoordinateRange
from phextsync.store.folder import lock_folder
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.records import META, seal
from phextsync.sync.messages import PROTOCOL_MAJOR, PROTOCOL_MINOR
from sims.processes import Process, make_folder

_FOLDER = Path("/data")
_NOW_S = 1_800_000_000.0
_SAME = f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"
_ALONE = Status(running=False, name="one", node_id="01" * 32, folder="/data")
_RUNNING = replace(_ALONE, running=True, port=7439)
_SOUND = Facts(
    folder=_FOLDER,
    status=_RUNNING,
    identity_mode=0o600,
    kind="ext4",
    free_bytes=1 << 40,
    ports={"port 7439": ""},
    firewalls=(),
    now_s=_NOW_S,
    is_clock_synchronized=True,
    descriptors=(20, 1024),
    watches=(10, 0, 8192),
    watchers=(1, 128),
)
_DIRECTORY = DirectoryRow(
    directory="/notes",
    phext="memory",
    range="7.*",
    kept_days=30,
    is_served=True,
    is_taken_up=True,
    watcher="watching",
    files=3,
    in_step=3,
)


def _peer(protocol: str) -> PeerRow:
    texts = {"node_id": "02" * 32, "name": "lap", "address": "a:1", "state": "live"}
    numbers = {name: 0 for name, kind in PeerRow.__annotations__.items() if kind in (int, "int")}
    rest: dict[str, Any] = {**texts, **numbers, "round_trip_ms": None, "last_error": ""}
    return PeerRow(**rest, lacks=(), protocol=protocol)


def _absent(*, reason: str = "no answer", seen_s: float | None = None) -> AbsentRow:
    return AbsentRow(
        node_id="03" * 32,
        name="shed",
        address="b:1",
        last_seen_s=seen_s,
        reason=reason,
        is_wanted=True,
    )


def _of(check: str, **facts: object) -> list[Finding]:
    found = findings(replace(_SOUND, **facts))  # type: ignore[arg-type]
    return [finding for finding in found if finding.check == check]


def test_where_all_is_well_nothing_is_advised() -> None:
    found = findings(replace(_SOUND, status=replace(_RUNNING, directories=(_DIRECTORY,))))
    assert {finding.level for finding in found} == {Level.OK}
    assert {finding.advice for finding in found} == {""}
    assert [*dict.fromkeys(finding.check for finding in found)] == [c.__name__ for c in CHECKS]


def test_a_folder_whose_scrolls_are_in_memory_may_lie_anywhere() -> None:
    facts = replace(_SOUND, kind="nfs4", in_memory=True, status=None, problem="no store")
    found = [each for each in findings(facts) if each.check in ("disk", "node")]
    assert {each.level for each in found} == {Level.OK}


_WRONG: list[tuple[str, dict[str, object], Level, str, str]] = [
    ("identity", {"identity_mode": 0o640}, Level.WRONG, "mode 0640", "chmod 600"),
    ("identity", {"identity_mode": None}, Level.WRONG, "identity.pem", "`phextsync init`"),
    ("configuration", {"settings_problem": "line 3"}, Level.WRONG, "line 3", "mend"),
    ("configuration", {"start_problem": "no token"}, Level.WRONG, "would end: no token", "mend"),
    ("identity", {"identity_problem": "cannot be read"}, Level.WRONG, "cannot be read", ""),
    (
        "node",
        {"status": None, "problem": "damaged", "is_damaged": True},
        Level.WRONG,
        "damaged",
        "repair",
    ),
    ("disk", {"is_writable": False}, Level.WRONG, "/data may not be written", "belong to the user"),
    (
        "node",
        {"status": replace(_RUNNING, store=StoreRow(is_writable=False))},
        Level.WRONG,
        "refuses",
        "make room",
    ),
    (
        "errors",
        {"status": replace(_RUNNING, errors=ErrorsRow(count=2, last="a: b", last_s=_NOW_S - 60))},
        Level.WRONG,
        "2 errors since",
        "its log",
    ),
    ("disk", {"kind": "nfs4"}, Level.WRONG, "nfs4", "local disk"),
    ("disk", {"kind": "tmpfs"}, Level.WRONG, "in memory", "no voter"),
    ("disk", {"free_bytes": 10 << 20}, Level.WRONG, "10.5 MB", "make room"),
    ("disk", {"free_bytes": None}, Level.UNKNOWN, "cannot tell", ""),
    ("ports", {"ports": {"links, port 7439": "in use"}}, Level.WRONG, "in use", "config.toml"),
    ("firewall", {"firewalls": ("ufw",)}, Level.UNKNOWN, "ufw", "5353 UDP"),
    ("firewall", {"firewalls": None}, Level.UNKNOWN, "cannot tell", "7439 TCP"),
    ("multicast", {"multicast_problem": "unreachable"}, Level.WRONG, "unreachable", "--peer"),
    ("clock", {"now_s": 5.0}, Level.WRONG, "1970-01-01", "timedatectl"),
    (
        "clock",
        {"status": replace(_RUNNING, absent=(_absent(seen_s=_NOW_S + 200_000),))},
        Level.WRONG,
        "earlier",
        "timedatectl",
    ),
    ("clock", {"is_clock_synchronized": False}, Level.UNKNOWN, "nothing keeps", "timedatectl"),
    ("clock", {"is_clock_synchronized": None}, Level.UNKNOWN, "cannot tell", ""),
    ("versions", {"status": _ALONE}, Level.UNKNOWN, "no node runs", ""),
    (
        "versions",
        {"status": replace(_RUNNING, peers=(_peer("1.0"),))},
        Level.UNKNOWN,
        "lap 1.0",
        "upgrade",
    ),
    (
        "versions",
        {"status": replace(_RUNNING, absent=(_absent(reason="expected protocol version 2"),))},
        Level.WRONG,
        "shed was refused",
        "upgrade",
    ),
    ("descriptors", {"descriptors": (10, 64)}, Level.WRONG, "10 of 64", "ulimit"),
    ("descriptors", {"descriptors": (900, 1024)}, Level.WRONG, "900 of 1024", "LimitNOFILE"),
    ("descriptors", {"descriptors": None}, Level.UNKNOWN, "cannot tell", ""),
    ("watches", {"watches": (8000, 500, 8192)}, Level.WRONG, "500 more", "max_user_watches=17000"),
    ("watches", {"watchers": (128, 128)}, Level.WRONG, "all 128", "max_user_instances=256"),
    ("watches", {"watches": None}, Level.UNKNOWN, "cannot tell", ""),
    (
        "directories",
        {
            "status": replace(_RUNNING, directories=(replace(_DIRECTORY, problem="expected"),)),
        },
        Level.WRONG,
        "/notes: expected",
        "status",
    ),
    (
        "directories",
        {
            "status": replace(_RUNNING, directories=(_DIRECTORY,)),
            "kinds": {"/notes": "virtiofs"},
        },
        Level.UNKNOWN,
        "virtiofs",
        "late",
    ),
    (
        "directories",
        {
            "status": replace(
                _RUNNING,
                directories=(replace(_DIRECTORY, watcher="looks through it: no watches left"),),
            )
        },
        Level.UNKNOWN,
        "no watches left",
        "watches",
    ),
]


@pytest.mark.parametrize(("check", "facts", "level", "found", "advice"), _WRONG)
def test_what_is_wrong_is_told_with_what_to_do(
    check: str, facts: dict[str, object], level: Level, found: str, advice: str
) -> None:
    told = [finding for finding in _of(check, **facts) if finding.level is not Level.OK]
    assert len(told) == 1
    assert told[0].level is level
    assert found in told[0].found
    assert advice in told[0].advice
    assert "\n" not in told[0].found + told[0].advice


def test_each_check_is_seen_to_fail() -> None:
    assert {row[0] for row in _WRONG} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("ago_s", [86400, -86400])
def test_an_error_of_yesterday_or_of_a_clock_that_was_ahead_is_no_finding(ago_s: int) -> None:
    errors = ErrorsRow(count=2, last="a: b", last_s=_NOW_S - ago_s)
    assert _of("errors", status=replace(_RUNNING, errors=errors))[0].level is Level.OK


def test_a_clock_that_is_behind_by_hours_is_not_blamed() -> None:
    status = replace(_RUNNING, absent=(_absent(seen_s=_NOW_S + 7200),))
    assert _of("clock", status=status)[0].level is Level.OK


def test_who_does_not_look_for_peers_needs_no_multicast() -> None:
    (found,) = _of("multicast", finds_peers=False, multicast_problem="unreachable")
    assert found.level is Level.OK


def test_peers_of_the_same_protocol_are_counted() -> None:
    status = replace(_RUNNING, peers=(_peer(_SAME),))
    (found,) = _of("versions", status=status)
    assert found.level is Level.OK
    assert "1 connected peer" in found.found


# -- the command -----------------------------------------------------------------------------


def _doctor(folder: Path) -> tuple[dict[str, Any], int]:
    result = CliRunner().invoke(app, ["--data", str(folder), "doctor", "--json"])
    told = dict(json.loads(result.stdout))
    assert result.exit_code == (1 if told["wrong"] else 0)
    assert told["wrong"] == sum(each["level"] == "wrong" for each in told["findings"])
    return told, result.exit_code


def _levels(told: dict[str, Any]) -> dict[str, str]:
    return {each["check"]: each["level"] for each in told["findings"]}


def test_a_folder_without_a_node_is_examined_and_left_as_it_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    before = sorted(folder.rglob("*"))
    levels = _levels(_doctor(folder)[0])
    assert {"identity", "node", "ports", "versions"} <= levels.keys()
    assert levels["identity"] == levels["node"] == "ok"
    assert sorted(folder.rglob("*")) == before


def test_a_folder_in_a_bad_state_ends_with_status_1(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "identity.pem").chmod(0o644)
    (folder / "config.toml").write_text("wrong = 1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told, status = _doctor(folder)
        levels = _levels(told)
        assert status == 1
        assert levels["identity"] == levels["configuration"] == "wrong"
        port = taken.getsockname()[1]
        (folder / "config.toml").write_text(f'host = "127.0.0.1"\nport = {port}\nmdns = false')
        told, _ = _doctor(folder)
        assert _levels(told)["ports"] == "wrong"
        assert _levels(told)["multicast"] == "ok"
    result = CliRunner().invoke(app, ["--data", str(folder), "doctor"])
    assert re.search(r"^wrong +identity +\S.*: chmod 600", result.stdout, re.MULTILINE)


def test_a_usual_port_that_is_taken_is_in_no_nodes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "data")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("phextsync.cli.facts.DEFAULT_PORT", port)
        (folder / "config.toml").write_text('host = "127.0.0.1"')
        assert gather(folder).ports == {f"links, any port, since {port} cannot be had": ""}
        (folder / "config.toml").write_text(f'host = "127.0.0.1"\nport = {port}')
        assert gather(folder).ports == {f"links, port {port}": "Address already in use"}


def test_a_host_that_is_not_here_is_no_port_that_is_taken(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "config.toml").write_text('host = "192.0.2.1"')
    assert gather(folder).ports == {"links, host 192.0.2.1": "Cannot assign requested address"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('http = "0.0.0.0"', "expected a loopback address for HTTP without a token"),
        ('http-token-file = "gone"', "gone: No such file or directory"),
        ('hook = ["http://localhost/"]', "expected a secret to sign posts"),
        ('web = "127.0.0.1"\nweb-cert = "cert.pem"', "--web-cert and --web-key together"),
    ],
)
def test_what_up_would_refuse_is_told_before(said: str, told: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "config.toml").write_text(said)
    (found,) = checks.configuration(gather(folder))
    assert found.level is Level.WRONG
    assert told in found.found


@pytest.mark.parametrize("has_store", [True, False])
def test_scrolls_that_cannot_be_in_memory_are_told_before(has_store: bool, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "config.toml").write_text("data-in-memory = true")
    assert [each.level for each in checks.configuration(gather(folder))] == [Level.OK]
    if has_store:
        LmdbStore(folder).close(clean=True)
    else:
        places = CoordinateRange.parse("7.*")
        BindingStore(folder).bind(Bound(tmp_path / "notes", "memory", places))
    (found,) = checks.configuration(gather(folder))
    assert found.level is Level.WRONG
    assert ("data folder without a store" if has_store else "no bound directory") in found.found
    assert "data-in-memory" in found.found


def test_no_repair_is_advised_of_a_folder_in_use(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    LmdbStore(folder).close(clean=True)
    (folder / "store" / "data.mdb").write_bytes(b"\1" * 8192)  # as one that is being made
    (before,) = checks.node(gather(folder))
    owned = lock_folder(folder)
    (found,) = checks.node(gather(folder))
    os.close(owned)
    assert "`phextsync repair`" in before.advice
    assert found.level is Level.WRONG
    assert found.advice == "another process has the folder open: look again when it is done"


def test_keys_that_cannot_be_read_are_not_to_be_repaired(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "identity.pem").write_text("none")
    (found,) = checks.node(gather(folder))
    assert found.level is Level.WRONG
    assert found.advice == ""


def test_nothing_is_to_be_mended_of_a_store_of_a_newer_version(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    LmdbStore(folder).close(clean=True)
    with (
        lmdb.open(str(folder / "store"), max_dbs=20) as environment,
        environment.begin(write=True) as transaction,
    ):
        meta = environment.open_db(b"meta", transaction)
        transaction.put(b"version", seal(META, b"version", b"9"), db=meta)
    (found,) = checks.node(gather(folder))
    assert found.level is Level.WRONG
    assert found.found.endswith("found format 9: install the newer phextsync that wrote it")
    assert found.advice == ""


def test_a_node_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def silent(_: Path, __: Callable[[str], None], tell: Callable[[str], None]) -> Iterator[object]:
        tell("it does not answer yet; waiting for it")
        yield pytest.fail("it was waited for")

    monkeypatch.setattr("phextsync.cli.facts.visit", silent)
    told, status = _doctor(make_folder(tmp_path / "data"))
    (found,) = (each for each in told["findings"] if each["check"] == "node")
    assert (status, found["level"]) == (1, "wrong")
    assert found["found"] == "runs, but does not answer"
    assert "start it again" in found["advice"]
    assert "ports" not in _levels(told)  # it is not in its own way


def test_how_many_files_may_be_open_is_not_told_where_there_is_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def without_proc(path: str | Path) -> list[str]:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr("phextsync.cli.facts.os.listdir", without_proc)
    monkeypatch.setattr("phextsync.cli.facts.open_files_max", lambda: None)
    facts = gather(make_folder(tmp_path / "data"))
    (found,) = checks.descriptors(facts)
    assert (found.level, found.found) == (Level.UNKNOWN, "cannot tell how many files may be open")


@pytest.mark.real
def test_a_running_node_is_asked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    process = Process(folder, (), ("--no-mdns", "--host", "127.0.0.1", "--port", "0"))
    try:
        process.start()
        facts = gather(folder)
    finally:
        process.stop()
    assert facts.status is not None
    assert facts.status.running
    assert list(facts.ports.values()) == [""]
    assert facts.descriptors is not None
    assert facts.descriptors[0] > 3
    (found,) = checks.versions(facts)
    assert found.level is Level.OK
