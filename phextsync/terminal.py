"""Terminal: what others wrote, made safe to show: escapes are visible and do nothing.

Names of nodes and files, lines of scrolls, and errors come from other machines. A terminal obeys
control characters in them, and characters that turn the direction of writing hide what a name is.
"""

import json
import re
from typing import Final

_CONTROLS: Final = "\x00-\x1f\x7f-\x9f"
_DIRECTIONS: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSEEN: Final = "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
_HIDDEN: Final = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_UNSEEN}]")
_HIDDEN_IN_TEXT: Final = re.compile(f"(?![\t\n])[{_CONTROLS}{_DIRECTIONS}{_UNSEEN}]")


def visible(line: str) -> str:
    """Return a line without anything that a terminal obeys: `\\x1b` is shown, not sent."""
    return _HIDDEN.sub(_escape, line)


def visible_text(text: str) -> str:
    """Return a text of several lines as `visible` does a line; its tabs and line ends stay."""
    return _HIDDEN_IN_TEXT.sub(_escape, text)


def visible_json(value: object) -> str:
    """Return JSON that means `value` and has nothing that a terminal obeys."""
    text = json.dumps(value, ensure_ascii=False)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()
