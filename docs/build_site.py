"""The pages as a site that needs no network: `make site` builds it in `build/site`.

Strictly: a link or an anchor that leads nowhere ends the build, and so does a page that would load
anything from elsewhere. Run by the Python of `.site`, which has Material for MkDocs.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_ROOMS: Final = {"How to": "howto", "Look up": "reference", "Understand": "explanation"}
_BESIDE: Final = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_COPIED: Final = ("README.md", "LICENSE", "docs", "examples", "integrations", *_BESIDE)
# What lets the search run where the site is opened as files; Material names it at a server.
_SHIM: Final = ".site/node_modules/iframe-worker/shim/index.js"
_SHIM_ELSEWHERE: Final = "https://unpkg.com/iframe-worker/shim"
_LOADED: Final = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^\s"'>]+)"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preload|icon|preconnect)[^>]*"""
    r"""\bhref=["']?((?:https?:)?//[^\s"'>]+)"""
)


def navigation() -> list[dict[str, object]]:
    """Return the pages by rooms, in a room in the order in which the index names them."""
    index = (ROOT / "docs/index.md").read_text()
    rooms: list[dict[str, object]] = [
        {"phextsync": ["README.md", "docs/index.md"]},
        {"Tutorial": "docs/tutorial.md"},
    ]
    for title, folder in _ROOMS.items():
        pages = (ROOT / "docs" / folder).rglob("*.md")
        names = [page.relative_to(ROOT / "docs").as_posix() for page in pages]
        names.sort(key=lambda name: (index.find(f"({name}"), name))
        rooms.append({title: [f"docs/{name}" for name in names]})
    hosts = sorted((ROOT / "integrations").rglob("*.md"))
    others = [*_BESIDE, *(page.relative_to(ROOT).as_posix() for page in hosts)]
    return [*rooms, {"The project": others}]


def elsewhere(page: str) -> Iterator[str]:
    """Iterate over what a page of HTML loads from other places; links only lead there."""
    for found in _LOADED.finditer(page):
        yield found[1] or found[2]


def build(target: Path) -> None:
    """Build the site in `target`/site. SystemExit says what is wrong with it."""
    source, site = target / "site-source", target / "site"
    _copy(source)
    config = target / "site.json"
    config.write_text(json.dumps(_config(source, site)))  # which is YAML, too
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", str(config)]
    subprocess.run(command, check=True)
    shim = shutil.copy(ROOT / _SHIM, site / "assets/javascripts/iframe-worker.js")
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text()
        text = text.replace(_SHIM_ELSEWHERE, up + Path(shim).relative_to(site).as_posix())
        page.write_text(text)
        for address in elsewhere(text):
            sys.exit(
                f"expected a page that loads nothing from elsewhere, found {address} in {page}"
            )


def _copy(source: Path) -> None:
    """Copy what pages are and lead to, laid out as in the repository, so that links hold."""
    shutil.rmtree(source, ignore_errors=True)
    for name in _COPIED:
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.csv")
            shutil.copytree(ROOT / name, copy, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, copy)


def _config(source: Path, site: Path) -> dict[str, object]:
    warn = {"not_found": "warn", "anchors": "warn", "unrecognized_links": "ignore"}
    return {
        "site_name": "phextsync",
        "docs_dir": str(source.resolve()),
        "site_dir": str(site.resolve()),
        "nav": navigation(),
        "theme": {"name": "material", "font": False, "features": ["navigation.top"]},
        "plugins": ["search", "offline"],
        "markdown_extensions": ["tables", "toc", "pymdownx.superfences"],
        "validation": {"links": warn, "nav": {"omitted_files": "warn"}},
    }


if __name__ == "__main__":
    build(ROOT / "build")
