"""Forms: what a person sends with a page, up to a size."""

import re
from contextlib import aclosing
from itertools import chain
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

from phextsync.alignment import Work, changed_blocks
from phextsync.errors import PhextsyncError

_FIELDS_MAX: Final = 16
_END: Final = re.compile(r"(\r\n|\r|\n)")  # of a line, as browsers have it


class FormTooLargeError(PhextsyncError):
    """A form has more bytes than are taken."""


async def form_of(request: Request, bytes_max: int) -> dict[str, str]:
    """Return the first value of each field. FormTooLargeError, or PhextsyncError for what is no
    form."""
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > bytes_max:
                raise FormTooLargeError(f"expected a form of at most {bytes_max} bytes, found more")
    try:
        found = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_FIELDS_MAX,
            errors="strict",
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise PhextsyncError(f"expected a form in UTF-8, found other bytes: {error}") from error
    return {name: values[0] for name, values in found.items()}


def with_ends_of(before: str, sent: str) -> str:
    """Return a text that a form sent, with the ends of lines of the one from which it was made.

    Forms send all ends alike, whatever they are. A line that is as before keeps its end, one in
    the place of another has that of the other, and more have that of the line above.
    """
    ours, ends = _lines(before)
    theirs, _ = _lines(sent)
    found: list[str] = []

    def keep(line: int, stop: int, until: int) -> None:
        while len(found) < min(until, len(theirs) - 1):
            above = found[-1] if found else (*ends, "\n")[0]
            found.append(ends[line] if line < min(stop, len(ends)) else above)
            line += 1

    at = 0
    for a, b, c, d in changed_blocks(ours, theirs, Work(len(before) + len(sent))):
        keep(at, a, c)
        keep(a, b, d)
        at = b
    keep(at, len(ours), len(theirs))
    return "".join(chain.from_iterable(zip(theirs, [*found, ""], strict=True)))


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of a text without their ends, and the ends, which the last one has not."""
    pieces = _END.split(text)
    return pieces[::2], pieces[1::2]
