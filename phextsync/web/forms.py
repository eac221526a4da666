"""Forms: what a person sends with a page, up to a size."""

from contextlib import aclosing
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

from phextsync.errors import PhextsyncError

_FIELDS_MAX: Final = 16


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
