"""Rendering: values as HTML, by the templates in `templates`. What others wrote is text in it."""

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.filesize import decimal

from phextsync.texts import sendable
from phextsync.web.built import address

_MINUTE_MS: Final = 60_000
_STEPS: Final = ((60, "min"), (24, "h"), (30, "d"))


def render(name: str, values: Mapping[str, object]) -> str:
    """Return a page, of a template and what it shows."""
    return sendable(_TEMPLATES.get_template(name).render(values))


def size(count: int) -> str:
    """Return bytes for people."""
    return decimal(count)


def ago(time_ms: int, now_ms: int) -> str:
    """Return how long ago a time was, in one unit."""
    left = max(0, now_ms - time_ms) // _MINUTE_MS
    if not left:
        return "just now"
    for count, unit in _STEPS:
        if left < count:
            return f"{left} {unit} ago"
        left //= count
    return day(time_ms)


def day(time_ms: int) -> str:
    """Return the time of day and the day, where this node is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))
    except (ValueError, OverflowError, OSError):  # clocks of others may say anything
        return f"{time_ms} ms"


def plural(count: int, what: str) -> str:
    """Return a number of things: `1 scroll`, `2 scrolls`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def part(text: str) -> str:
    """Return a text as one part of a path of an address."""
    return quote(text, safe="")


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("phextsync.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update({"size": size, "ago": ago, "day": day, "plural": plural, "part": part})
    made.globals["static"] = address
    return made


_TEMPLATES: Final = _templates()
