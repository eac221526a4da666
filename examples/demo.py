"""The main job, end to end, in two acts; exits with status 1 if anything differs or is lost.

Three real processes with folders of their own find each other by mDNS on this machine. One
imports a corpus, all three edit, one is switched off and edited meanwhile, and comes back. Then
six nodes keep the notes of six directories the same: see `directories`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import directories
from processes import Node, console, set_up, stopping, timed, wait_until_equal
from rich.table import Table

HERE = Path(__file__).resolve().parent
SAMPLES = HERE / "samples"
NAMES = ("alpha", "beta", "gamma")
SHARED = "500.1.1/1.1.1/1.1.1"
DOOMED = "500.1.1/1.1.1/1.1.2"
MEANWHILE = {
    "alpha": "written by alpha while gamma was away",
    "gamma": "written by gamma while it was away",
}


def main() -> int:
    """Run the demo and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="phextsync-demo-") as folder:
        nodes = {name: Node(name, Path(folder) / name) for name in NAMES}
        set_up(list(nodes.values()))
        with stopping(nodes.values()):
            status = act(nodes, Path(folder))
    return status or directories.act()


def act(nodes: "dict[str, Node]", folder: Path) -> int:
    """The story; every step says how long it took."""
    alpha, beta, gamma = nodes.values()
    everyone = list(nodes.values())
    with timed("the three nodes started and found each other by mDNS"):
        for node in everyone:
            node.start()
        for node in everyone:
            node.wait_until("two peers", lambda status: len(status["peers"]) == 2)

    corpus = folder / "corpus.phext"
    subprocess.run([sys.executable, HERE / "make_corpus.py", corpus], check=True)
    files = {"memory": corpus} | {path.stem: path for path in sorted(SAMPLES.glob("*.phext"))}
    with timed(f"alpha imported {len(files)} files ({corpus.stat().st_size:,} bytes of notes)"):
        for phext, path in files.items():
            alpha.run("import", str(path), "--phext", phext, "--clamp")
    with timed("all three hold the same text"):
        wait_until_equal(everyone)

    with timed("each node edited, and all have every edit"):
        beta.run("set", DOOMED, "to be deleted\n")
        for node in everyone:
            node.run("append", SHARED, f"a line of {node.name}")
        wait_until_equal(everyone)

    gamma.stop()
    console.print("\n[bold]gamma is switched off[/]; alpha and gamma edit one scroll meanwhile")
    for name, line in MEANWHILE.items():
        nodes[name].run("append", SHARED, line)
    beta.run("rm", DOOMED)
    gamma.run("append", "500.1.1/1.1.1/1.1.3", "something else of gamma")
    with timed("gamma started again, and all three are the same"):
        gamma.start()
        gamma.wait_until("a peer", lambda status: len(status["peers"]) > 0)
        wait_until_equal(everyone)
    return conclude(everyone)


def conclude(nodes: "list[Node]") -> int:
    """Print what each node holds and say whether all is well."""
    table = Table("node", "phext", "scrolls", "bytes", "fingerprint", box=None)
    for node in nodes:
        for row in node.status()["phexts"]:
            if row["name"] in ("memory", "garden"):
                cells = (row["name"], str(row["scrolls"]), f"{row['bytes']:,}", row["fingerprint"])
                table.add_row(node.name, *cells)
    console.print(table)
    merged = nodes[0].run("get", SHARED)
    console.print(f"\n[bold]the merged scroll {SHARED}[/]\n{merged}")
    expected = sorted([*(f"a line of {node.name}" for node in nodes), *MEANWHILE.values()])
    texts = {node.run("get", SHARED) for node in nodes}
    deleted = all(DOOMED not in node.run("ls", DOOMED) for node in nodes)
    if texts != {merged} or sorted(merged.splitlines()) != expected or not deleted:
        console.print("[bold red]something differs or is lost[/]")
        return 1
    console.print("[bold green]nothing lost, nothing doubled, nothing came back[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
