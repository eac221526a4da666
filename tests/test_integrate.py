"""A host's configuration gets a server, and is as it was when that is taken back."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from phextsync.cli.main import app
from phextsync.hosts.configurations import HOSTS, NAMES
from phextsync.hosts.insertions import UnfitError, into_json, into_toml
from sims.processes import make_folder

_VALUE = {"command": "/bin/phextsync", "args": ["mcp"]}
_keys = st.sampled_from(["a", "servers", 'q"{', "mcp"])
_values = st.recursive(
    st.none() | st.integers(0, 9) | st.text('a{}"\\,: ', max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(_keys, _values, max_size=4)


@given(_objects, st.sampled_from([None, 0, 2, 4]), st.sampled_from(["", "\n", " \n"]))
def test_whatever_stands_in_json_stays_and_the_server_is_there(
    known: dict[str, object], indent: int | None, around: str
) -> None:
    text = around + json.dumps(known, indent=indent) + around
    try:
        insertion = into_json(text, ("mcp", "servers"), "phextsync", _VALUE)
    except UnfitError:
        assert not isinstance(known["mcp"], dict) or not isinstance(known["mcp"]["servers"], dict)
        return
    assert insertion is not None
    after = insertion.done_to(text)
    assert after[: insertion.at] + after[insertion.at + len(insertion.piece) :] == text
    found = json.loads(after)
    assert found["mcp"]["servers"].pop("phextsync") == _VALUE
    if "servers" not in known.get("mcp", {}):  # type: ignore[operator]
        del found["mcp"]["servers"]
    if "mcp" not in known:
        del found["mcp"]
    assert found == known
    assert into_json(after, ("mcp", "servers"), "phextsync", _VALUE) is None


def test_what_comes_into_json_is_written_as_what_stands_there() -> None:
    text = '{\n  "mcpServers": {\n    "other": {"command": "x"}\n  },\n  "more": 1\n}\n'
    insertion = into_json(text, ("mcpServers",), "phextsync", {"command": "y"})
    assert insertion is not None
    assert insertion.done_to(text) == (
        '{\n  "mcpServers": {\n    "other": {"command": "x"},\n    "phextsync": {\n'
        '      "command": "y"\n    }\n  },\n  "more": 1\n}\n'
    )


@pytest.mark.parametrize("text", ["", "# mine\nmodel = 'x'", "[mcp_servers.other]\ncommand='y'\n"])
def test_toml_gets_a_table_at_its_end(text: str) -> None:
    insertion = into_toml(text, "mcp_servers", "phextsync", _VALUE)
    assert insertion is not None
    after = insertion.done_to(text)
    assert after.startswith(text)
    assert tomllib.loads(after)["mcp_servers"]["phextsync"] == _VALUE
    assert into_toml(after, "mcp_servers", "phextsync", _VALUE) is None
    with pytest.raises(UnfitError, match="another server"):
        into_toml(after, "mcp_servers", "phextsync", {"command": "z"})


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = {other = {command = "x"}}\n',
        'mcp_servers = "phextsync"\n',
        "mcp_servers = 5\n",
        "[[mcp_servers]]\na = 1\n",
    ],
)
def test_toml_to_which_no_table_can_be_added_stays_as_it_is(text: str) -> None:
    with pytest.raises(UnfitError, match=r"cannot be added .* by hand"):
        into_toml(text, "mcp_servers", "phextsync", _VALUE)


def test_json_that_has_one_name_twice_stays_as_it_is() -> None:
    with pytest.raises(UnfitError, match=r"cannot be added .* by hand"):
        into_json('{"mcp": {}, "mcp": {"a": 1}}', ("mcp",), "phextsync", _VALUE)


def test_a_path_of_any_characters_is_written_or_refused() -> None:
    wild = {"command": "/home/\U0001f600/phextsync"}
    insertion = into_toml("", "mcp_servers", "phextsync", wild)
    assert insertion is not None
    assert tomllib.loads(insertion.done_to(""))["mcp_servers"]["phextsync"] == wild
    for odd in ({"command": "/\x7f"}, {"command": "/\udcff"}):
        with pytest.raises(UnfitError, match="cannot be added"):
            into_toml("", "mcp_servers", "phextsync", odd)
    with pytest.raises(UnfitError, match="cannot be added"):
        into_json("{}", ("mcp",), "phextsync", {"command": "/\udcff"})


class _User:
    """A person with a home and a data folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.data = make_folder(folder / "data")

    def run(self, *words: str) -> Result:
        home = [] if "--undo" in words else ["--home", str(self.home)]
        return CliRunner().invoke(app, ["integrate", *words, "--data", str(self.data), *home])

    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.home)): path.read_text()
            for path in self.home.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def user(tmp_path: Path) -> _User:
    return _User(tmp_path)


@pytest.mark.parametrize("host", NAMES)
def test_every_host_is_told_and_forgets_again(user: _User, host: str) -> None:
    words = (host, "--project", str(user.home)) if host == "vscode" else (host,)
    shown = user.run(*words, "--dry-run")
    assert (shown.exit_code, user.files()) == (0, {})
    signs = {line[0] for line in shown.stdout.splitlines()}
    assert signs in ({"-", "+", "@"}, {"-", "+", "@", " "})
    assert "\\n" not in shown.stdout
    assert user.run(*words).exit_code == 0
    written = user.files()
    assert any(str(user.data) in text for text in written.values())
    if host != "hermes":
        (text,) = written.values()
        assert '"mcp"' in text
    again = user.run(*words)
    assert f"{host} knows phextsync already" in again.stderr
    assert user.files() == written
    assert user.run(host, "--undo").exit_code == 0
    assert user.files() == {}
    assert f"nothing was written for {host}" in user.run(host, "--undo").stderr


@pytest.mark.parametrize("host", [host.name for host in HOSTS if host.user.endswith(".json")])
def test_what_stood_there_is_there_again_byte_for_byte(user: _User, host: str) -> None:
    (known,) = [each for each in HOSTS if each.name == host]
    path = user.home / known.user
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text('{"theme":   "dark", "more": [1,2]}')
    path.chmod(0o640)
    assert user.run(host).exit_code == 0
    assert json.loads(path.read_text())["theme"] == "dark"
    assert path.stat().st_mode & 0o777 == 0o640
    changed = path.read_text().replace("dark", "light")
    path.write_text(changed)
    assert user.run(host, "--undo").exit_code == 0
    assert path.read_text() == '{"theme":   "light", "more": [1,2]}'


def test_a_file_that_cannot_be_changed_without_harm_stays_as_it_is(user: _User) -> None:
    path = user.home / ".config" / "zed" / "settings.json"
    path.parent.mkdir(parents=True)
    for text, what in (
        (
            '{\n  // mine\n  "theme": "x"\n}\n',
            "found comments, which JSON has not; add this by hand",
        ),
        ('{"theme": ', "found no JSON"),
        ('{"context_servers": {"phextsync": {"command": "x"}}}', "there is another server"),
        ('{"context_servers": []}', "expected an object; add this by hand"),
    ):
        path.write_text(text)
        refused = user.run("zed")
        assert what in str(refused.exception)
        assert str(path) in str(refused.exception)
        assert user.files() == {".config/zed/settings.json": text}
    path.write_bytes(b"\xff")
    assert "expected UTF-8" in str(user.run("zed").exception)


def test_what_was_changed_since_is_not_taken_back(user: _User) -> None:
    assert user.run("cursor").exit_code == 0
    path = user.home / ".cursor" / "mcp.json"
    path.write_text(path.read_text().replace('"mcp"', '"mcp", "--phext", "work"'))
    before = user.files()
    assert "found it changed" in str(user.run("cursor", "--undo").exception)
    assert user.files() == before
    path.unlink()
    assert user.run("cursor", "--undo").exit_code == 0


def test_what_is_gone_already_is_taken_back(user: _User) -> None:
    path = user.home / ".codex" / "config.toml"
    path.parent.touch()  # so nothing can be written below it
    assert user.run("codex").exit_code != 0
    assert user.run("codex", "--undo").exit_code == 0
    path.parent.unlink()
    assert user.run("codex").exit_code == 0
    path.write_text("[mcp_servers.other]\ncommand = 'x'\n")  # a person took it out
    before = user.files()
    undone = user.run("codex", "--undo")
    assert (undone.exit_code, user.files()) == (0, before)
    assert "nothing was written for codex" in user.run("codex", "--undo").stderr


def test_unknown_hosts_name_those_that_there_are(user: _User) -> None:
    told = str(user.run("amnesia").exception)
    assert "hermes, claude-code, cursor" in told
    assert "hermes was tested with hermes-agent 0.19.0" in told
    assert "expected --project DIRECTORY" in str(user.run("vscode").exception)
    assert user.run("amnesia", "--undo").exit_code == 1


def test_a_plug_in_of_another_is_not_written_over(user: _User) -> None:
    path = user.home / "plugins" / "phextsync" / "__init__.py"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert "expected no file, found another" in str(user.run("hermes").exception)
    assert user.files() == {"plugins/phextsync/__init__.py": "mine"}
