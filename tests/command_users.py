"""People who use the command on a folder, in this process."""

from pathlib import Path

from typer.testing import CliRunner, Result

from phextsync.cli.main import app


class CommandUser:
    """A person with a data folder on which no node runs."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *arguments: str, text: str = "") -> Result:
        return CliRunner().invoke(app, ["--data", str(self.data), *arguments], input=text)

    def out(self, *arguments: str, text: str = "") -> str:
        """Return the output of a command that succeeds."""
        result = self.run(*arguments, text=text)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        return result.stdout

    def error(self, *arguments: str, text: str = "") -> str:
        """Return what a command that fails says."""
        result = self.run(*arguments, text=text)
        assert result.exit_code != 0, result.output
        is_ours = not isinstance(result.exception, SystemExit)
        return str(result.exception) if is_ours else result.stderr
