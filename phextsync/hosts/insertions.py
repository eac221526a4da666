"""Insertions: where a server stands in the configuration of a host. Pure functions.

A configuration stays as it is, with its order, blanks and comments: what is added is a piece of
text at one place, and taken away it leaves the file as it was.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined] # where a string ends, as `json` has it
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.plain_values import read_json, read_json_at, read_toml

_BLANKS: Final = tuple(" \t\r\n")
_INDENT: Final = 2
_COMMENT: Final = re.compile(r"^\s*(//|/\*)", re.MULTILINE)

Value = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Insertion:
    """A piece of text that is put into another at an offset."""

    at: int
    piece: str

    def done_to(self, text: str) -> str:
        """Return a text with the piece."""
        return text[: self.at] + self.piece + text[self.at :]


class UnfitError(PhextsyncError):
    """A configuration cannot be changed without harm; it says what to add by hand."""


def into_json(text: str, path: Sequence[str], name: str, value: Value) -> Insertion | None:
    """Say how a member `name` comes into the object at `path`, which is made if it is not there;
    None when it is there already. UnfitError for what is no JSON, or has comments, or another
    member of that name, and where it would not be read afterwards."""
    insertion = _json_insertion(text, path, name, value)
    if insertion is not None:
        whole = [*path, name]
        _check_is_read(read_json, insertion, text, whole, value, _by_hand(path, name, value))
    return insertion


def _json_insertion(text: str, path: Sequence[str], name: str, value: Value) -> Insertion | None:
    if not text.strip():
        whole = json.dumps(_wrapped([*path, name], value), indent=_INDENT, ensure_ascii=False)
        return Insertion(len(text), f"{whole}\n")
    try:
        known = read_json(text)
    except ValueError as error:
        what = "comments, which JSON has not" if _COMMENT.search(text) else f"no JSON: {error}"
        raise UnfitError(f"found {what}; {_by_hand(path, name, value)}") from None
    at, keys = _skip(text, 0), [*path, name]
    for depth, key in enumerate(keys):
        if not isinstance(known, dict):
            raise UnfitError(f"expected an object; {_by_hand(path, name, value)}")
        if key not in known:
            return _member(text, at, _wrapped(keys[depth:], value), depth + 1)
        known, at = known[key], _value_at(text, at, key)
    if known == value:
        return None
    raise UnfitError(f"there is another server {name}; remove it first")


def into_toml(text: str, table: str, name: str, value: Value) -> Insertion | None:
    """The same for a table of TOML, which comes at the end."""
    try:
        known = read_toml(text).get(table, {})
    except ValueError as error:
        raise UnfitError(f"found no TOML: {error}") from None
    if isinstance(known, dict) and name in known:
        if known[name] == value:
            return None
        raise UnfitError(f"there is another server {name}; remove it first")
    lines = [f"{key} = {json.dumps(each, ensure_ascii=False)}" for key, each in value.items()]
    piece = "\n".join((f"[{table}.{name}]", *lines)) + "\n"
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    insertion = Insertion(len(text), gap + piece)
    by_hand = f"add this to {table} by hand: {name} = {{{', '.join(lines)}}}"
    _check_is_read(read_toml, insertion, text, (table, name), value, by_hand)
    return insertion


def _check_is_read(
    read: Callable[[str], object],
    insertion: Insertion,
    text: str,
    path: Sequence[str],
    value: Value,
    by_hand: str,
) -> None:
    """UnfitError when a reader of the configuration would not find the value."""
    try:
        insertion.piece.encode()
        found = read(insertion.done_to(text))
    except ValueError:
        found = None
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if found != value:
        raise UnfitError(f"it cannot be added where it would be read; {by_hand}")


def _by_hand(path: Sequence[str], name: str, value: Value) -> str:
    return f"add this by hand: {json.dumps(_wrapped([*path, name], value))}"


def _wrapped(path: Sequence[str], value: object) -> object:
    for key in reversed(path):
        value = {key: value}
    return value


def _member(text: str, at: int, whole: object, depth: int) -> Insertion:
    """Put what an object holds at the end of the object that begins at an offset."""
    indent = " " * (_INDENT * (depth - 1))
    lines = json.dumps(whole, indent=_INDENT, ensure_ascii=False).split("\n")[1:-1]
    member = "\n".join(indent + line for line in lines)
    end = read_json_at(text, at)[1] - 1
    last = len(text[:end].rstrip())
    if last == at + 1:
        return Insertion(last, f"\n{member}\n{indent}")
    gap = "" if "\n" in text[last:end] else f"\n{indent}"
    return Insertion(last, f",\n{member}{gap}")


def _value_at(text: str, at: int, name: str) -> int:
    """Return where the value of a member begins, in the object that begins at an offset."""
    while True:
        key, at = scanstring(text, _skip(text, at + 1) + 1)
        at = _skip(text, _skip(text, at) + 1)
        if key == name:
            return at
        at = _skip(text, read_json_at(text, at)[1])


def _skip(text: str, at: int) -> int:
    """Return where blanks end."""
    while text[at : at + 1] in _BLANKS:
        at += 1
    return at
