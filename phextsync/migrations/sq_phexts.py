"""Phexts of SQ: the files in its folder, or what a running server has of them."""

import http.client
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from phextsync.boundaries import one_line
from phextsync.errors import PhextsyncError
from phextsync.phextfile import FILE_BYTES_MAX
from phextsync.plain_files import read_at_most, read_file

_SUFFIX: Final = ".phext"
_TIMEOUT_S: Final = 30.0
_NO_FILE: Final = b"Unable to open requested phext "


def is_server(where: str) -> bool:
    """Whether phexts are asked of a server, not read from files."""
    return where.startswith(("http://", "https://"))


def files(where: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the phexts of a folder by name, all or those of these names; of a file, that one.
    PhextsyncError when one is not there, OSError when it cannot be read."""
    if where.is_file():
        return {where.name.removesuffix(_SUFFIX): read_file(where, FILE_BYTES_MAX)}
    found = {}
    for name in list(names) or _names_in(where):
        file = where / f"{name}{_SUFFIX}"
        if not file.is_file():
            raise PhextsyncError(f"expected a file of SQ, found none at {file}")
        found[name] = read_file(file, FILE_BYTES_MAX)
    return found


def fetch(server: str, name: str, token: str) -> bytes:
    """Return what a server has of a phext, as its file is. It has to have one: SQ makes an empty
    file of each name that it is asked for. PhextsyncError when it gives none."""
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    try:
        parts = urlsplit(server)
        if not parts.hostname or parts.port == 0:
            raise ValueError
        connection = kinds[parts.scheme](parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    except (ValueError, http.client.HTTPException):
        raise PhextsyncError(f"expected http://HOST:PORT, found {server!r:.200}") from None
    headers = {"Authorization": token} if token else {}
    try:
        connection.request("GET", f"/api/v2/get?p={quote(name, safe='')}", headers=headers)
        response = connection.getresponse()
        found = read_at_most(response, FILE_BYTES_MAX)
        if found is not None and response.length:
            raise http.client.IncompleteRead(found, response.length)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PhextsyncError(f"{server} does not answer as SQ does: {reason}") from error
    finally:
        connection.close()
    if response.status == http.client.UNAUTHORIZED:
        raise PhextsyncError(f"{server} wants a token: --token")
    if response.status != http.client.OK:
        raise PhextsyncError(f"expected a phext from {server}, found status {response.status}")
    if found is None:
        raise PhextsyncError(f"expected at most {FILE_BYTES_MAX} bytes of {name}, found more")
    if not found or found.startswith(_NO_FILE):
        raise PhextsyncError(f"{server} has no scrolls of {name!r:.80}")
    return found


def _names_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise PhextsyncError(f"expected files of SQ or http://HOST:PORT, found nothing at {folder}")
    files = folder.glob(f"[!.]*{_SUFFIX}")
    names = sorted(file.name.removesuffix(_SUFFIX) for file in files)
    if not names:
        raise PhextsyncError(f"expected files of SQ, NAME{_SUFFIX}, found none in {folder}")
    return names
