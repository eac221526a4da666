"""Meshes are made, joined, administered and changed by commands, also while nodes run."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from phextsync.cli.main import app
from phextsync.discovery import PEERS_FILE, RememberedPeers, parse_address
from phextsync.errors import IdentityError, PhextsyncError
from phextsync.node.invitations import InvitationCode
from phextsync.trust.authority import Authority
from phextsync.trust.permissions import UNRESTRICTED
from sims.processes import Process
from tests.command_users import CommandUser

pytestmark = pytest.mark.real

_LOOPBACK = "127.0.0.1"
_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"
_OPTIONS = ("--no-mdns", "--host", _LOOPBACK, "--port", "0")


class Cli(CommandUser):
    """The command on one folder, in this process."""

    @property
    def folder(self) -> Path:
        return self.data

    def run(self, *arguments: str, text: str = "") -> Result:
        takes_data = arguments[0] != "issue"
        data = ["--data", str(self.data)] if takes_data else []
        return CliRunner().invoke(app, [*arguments, *data], input=text)

    def error(self, *arguments: str, text: str = "") -> str:
        """Return the one line of a command that fails."""
        result = self.run(*arguments, text=text)
        assert result.exit_code == 1
        if isinstance(result.exception, SystemExit):
            line = result.stderr.removesuffix("\n")
        else:  # `main` prints it
            assert isinstance(result.exception, PhextsyncError | OSError)
            line = str(result.exception)
        assert "\n" not in line
        return line


def _holds(process: Process, coordinate: str, text: str, _: object) -> bool:
    return process.ask("get", "memory", coordinate) == text


@contextmanager
def _up(*folders: Path) -> Iterator[list[Process]]:
    """Run a node on each folder; each dials the first."""
    processes: list[Process] = []
    try:
        for folder in folders:
            options: tuple[str, ...] = _OPTIONS
            if processes:
                options = (*_OPTIONS, f"--peer={_LOOPBACK}:{processes[0].status()['port']}")
            processes.append(Process(folder, (), options))
            processes[-1].start()
        yield processes
    finally:
        for process in processes:
            process.stop(signal.SIGTERM)


def _is_linked(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda status: len(status["peers"]) == count


def test_a_node_of_an_administered_mesh_asks_and_gets_its_certificate(tmp_path: Path) -> None:
    boss, node = Cli(tmp_path / "boss"), Cli(tmp_path / "node")
    authority = str(tmp_path / "authority")
    boss.out("init", "--administered", "--authority", authority, "--name", "boss")
    assert "ask the mesh's administrator" in boss.error("code")
    assert "ask the administrator" in boss.error("rotate")
    request, bundle = tmp_path / "request", tmp_path / "bundle"
    node.out("request", "--name", "node", "--out", str(request))
    limits = ("--read", "1.*", "--write", "2.*", "--phext", "memory", "--days", "30")
    told = boss.out("issue", str(request), "--authority", authority, *limits, "--out", str(bundle))
    assert told == ""
    assert "may read" in node.out("accept", str(bundle))
    shown = json.loads(node.out("mesh", "--json"))
    assert shown["kind"] == "administered"
    assert shown["read"] == {"memory": ["1.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1"]}
    assert shown["write"] == {"memory": ["2.*"]}
    assert "administered" in node.out("mesh")
    node.out("set", _B, "allowed")
    assert "does not allow writing memory 1.1.1" in node.error("set", _A, "refused")
    # A renewal keeps the node's key.
    renewed = node.out("request")
    node_id = shown["node_id"]
    bundle.write_text(boss.out("issue", "-", "--authority", authority, text=renewed))
    node.out("accept", str(bundle))
    shown = json.loads(node.out("mesh", "--json"))
    assert shown["node_id"] == node_id
    assert shown["write"] == {"": ["*"]}
    other = Cli(tmp_path / "other")
    other.out("init", "--administered", "--authority", str(tmp_path / "second"))
    bundle.write_text(
        other.out("issue", "-", "--authority", str(tmp_path / "second"), text=renewed)
    )
    assert "--rotate changes the mesh's authority" in node.error("accept", str(bundle))
    node.out("accept", str(bundle), "--rotate")
    assert json.loads(node.out("mesh", "--json"))["previous"] == shown["mesh"]
    for wrong in (str(request), authority + "/authority.pem", str(tmp_path / "none")):
        node.error("accept", wrong)
    boss.error("issue", str(bundle), "--authority", authority)


def test_machines_join_by_invitation_while_the_administrators_node_runs(tmp_path: Path) -> None:
    boss = Cli(tmp_path / "boss")
    authority = ("--authority", str(tmp_path / "authority"))
    boss.out("init", "--administered", *authority, "--name", "boss")
    with _up(boss.folder) as (process,):
        here = ("--address", _LOOPBACK)
        code = boss.out("invite", *authority, "--read", "1.*", "--uses", "1").strip()
        (address,) = InvitationCode.from_text(code).addresses  # where the node listens
        assert address.startswith(f"{_LOOPBACK}:")
        for never in ("0s", "366d", "-1h", "1"):
            told = boss.error("invite", *authority, *here, f"--expires={never}")
            assert f"expected a time such as 30m, 2h or 7d, up to 365d, found '{never}'" in told
        gone = replace(InvitationCode.from_text(code), secret=bytes(16)).to_text()
        guest = Cli(tmp_path / "guest")
        guest.out("join", code, "--name", "guest")
        late = Cli(tmp_path / "late")
        for used_up in (code, gone):
            assert "the invitation has expired or was used up" in late.error("join", used_up)
        assert not (late.folder / "identity.pem").exists()
        process.ask("set", "memory", _A, "for guests")
        process.ask("set", "memory", _B, "not for guests")
        with _up_beside(process, guest.folder) as second:
            second.wait_until(lambda _: second.ask("get", "memory", _A) == "for guests")
            assert second.ask("get", "memory", _B) is None
            assert "guest" in boss.out("peers")


def test_a_request_is_the_same_until_it_is_answered(tmp_path: Path) -> None:
    node = Cli(tmp_path / "node")
    first = node.out("request", "--name", "anna")
    assert node.out("request") == node.out("request", "--name", "anna") == first
    assert node.error("mesh").endswith(
        "`phextsync accept` makes it of the certificate that was requested"
    )
    assert node.out("request", "--name", "bert") != first
    (node.folder / "request.pem").write_text("damaged")
    assert node.out("request") != first


def test_who_invites_while_no_node_runs_is_told_where_it_has_to_be_reached(tmp_path: Path) -> None:
    boss = Cli(tmp_path / "boss")
    authority = ("--authority", str(tmp_path / "authority"))
    boss.out("init", "--administered", *authority)
    result = boss.run("invite", *authority)
    code = InvitationCode.from_text(result.stdout)
    assert f"is to be reached at {' '.join(code.addresses)}" in result.stderr


def test_an_invitation_names_a_host_by_its_name_or_address(tmp_path: Path) -> None:
    boss = Cli(tmp_path / "boss")
    authority = ("--authority", str(tmp_path / "authority"))
    boss.out("init", "--administered", *authority)
    for host, there in [
        ("localhost", "localhost"),
        ("a-1.example.", "a-1.example."),
        ("[::1]", "::1"),
    ]:
        code = InvitationCode.from_text(boss.run("invite", *authority, "--address", host).stdout)
        (told,) = code.addresses
        assert parse_address(told).host == there
    for wrong in (" ", "a b", "anna:7440", "http://anna", "ä", "[anna", "::x", "a" * 254):
        assert "expected a host such as" in boss.error("invite", *authority, "--address", wrong)


def test_a_machine_joins_by_an_invitation_that_names_a_host(tmp_path: Path) -> None:
    boss = Cli(tmp_path / "boss")
    authority = ("--authority", str(tmp_path / "authority"))
    boss.out("init", "--administered", *authority, "--name", "boss")
    with _up(boss.folder):
        code = boss.out("invite", *authority, "--address", "localhost").strip()
        guest = Cli(tmp_path / "guest")
        assert "guest" in guest.out("join", code, "--name", "guest")


@contextmanager
def _up_beside(first: Process, folder: Path) -> Iterator[Process]:
    process = Process(folder, (), (*_OPTIONS, f"--peer={_LOOPBACK}:{first.status()['port']}"))
    try:
        process.start()
        yield process
    finally:
        process.stop()


def test_a_peer_is_blocked_and_allowed_by_name_while_the_node_runs(tmp_path: Path) -> None:
    anna, bert = Cli(tmp_path / "anna"), Cli(tmp_path / "bert")
    anna.out("init", "--name", "anna")
    bert.out("join", anna.out("code").strip(), "--name", "bert")
    with _up(anna.folder, bert.folder) as (first, second):
        first.wait_until(_is_linked(1))
        told = anna.out("peers", "block", "bert")
        assert "phextsync rotate" in told
        first.wait_until(_is_linked(0))
        second.wait_until(lambda status: "has blocked you" in str(status["absent"]))
        assert "blocked" in anna.out("peers")
    assert json.loads(anna.out("peers", "--json"))[0]["state"] == "blocked"
    anna.out("peers", "allow", "bert")
    assert json.loads(anna.out("peers", "--json"))[0]["state"] == "known"
    assert "expected one peer" in anna.error("peers", "block", "carl")
    met = RememberedPeers.load(anna.folder / PEERS_FILE)
    assert len(list(met.seen_since(1))) == 1
    anna.out("peers", "forget", "bert")
    assert json.loads(anna.out("peers", "--json")) == []
    met = RememberedPeers.load(anna.folder / PEERS_FILE)
    assert list(met.seen_since(1)) == [], "it is not waited for any more"


def test_the_mesh_key_is_changed_by_commands_while_nodes_run(tmp_path: Path) -> None:
    anna, bert = Cli(tmp_path / "anna"), Cli(tmp_path / "bert")
    anna.out("init", "--name", "anna")
    before = anna.out("code").strip()
    bert.out("join", before, "--name", "bert")
    with _up(anna.folder, bert.folder) as (first, second):
        first.wait_until(_is_linked(1))
        new = anna.out("rotate")
        code = anna.out("code").strip()
        assert code in new
        assert code != before
        assert "on its way" in anna.error("rotate")
        bert.out("join", "--rotate", code)
        first.ask("set", "memory", _A, "meanwhile")
        anna.out("rotate", "--finish")
        bert.out("rotate", "--finish")
        second.ask("set", "memory", _B, "afterwards")
        for process in (first, second):
            process.wait_until(partial(_holds, process, _A, "meanwhile"))
            process.wait_until(partial(_holds, process, _B, "afterwards"))
    assert "under way" in anna.error("rotate", "--finish")


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    """A request at an administrator, whose key is in `authority` and whose node is `boss`."""
    authority = str(tmp_path / "authority")
    Cli(tmp_path / "boss").out("init", "--administered", "--authority", authority)
    file = tmp_path / "request"
    Cli(tmp_path / "new").out("request", "--out", str(file))
    return file


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "0", "1e9"])
def test_a_certificate_is_issued_for_a_time_to_come(
    request_file: Path, tmp_path: Path, days: str
) -> None:
    authority = str(tmp_path / "authority")
    for command in (["issue", str(request_file)], ["invite"]):
        result = Cli(tmp_path / "boss").run(*command, "--authority", authority, "--days", days)
        assert result.exit_code == 2
        assert "'--days'" in result.stderr
    with pytest.raises(IdentityError, match="expected a time up to"):
        Authority.load(tmp_path / "authority").answer(
            request_file.read_bytes(), UNRESTRICTED, now_s=0, valid_s=float(days) * 86400
        )


def test_a_name_that_is_none_does_not_stand_for_every_phext(
    request_file: Path, tmp_path: Path
) -> None:
    words = ["--authority", str(tmp_path / "authority"), "--read", "1.*", "--phext", "a/b"]
    boss = Cli(tmp_path / "boss")
    for command in (["issue", str(request_file)], ["invite"]):
        assert "expected the name of a phext, found 'a/b'" in boss.error(*command, *words)
