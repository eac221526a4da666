"""What is fuzzed: each target takes any bytes and raises only when a promise is broken.

Errors that the library documents are part of a target's normal life. `seeds` are where mutation
starts, besides the corpus that earlier runs left.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from fuzz import desk, editors, scripts, web
from phextsync import phextfile
from phextsync.crdt import ROOT, Scroll, import_update
from phextsync.errors import (
    CoordinateError,
    PhextFileError,
    ProtocolError,
    ScrollError,
    UpdateError,
)
from phextsync.index import (
    EMPTY_VERSION,
    EVERYTHING,
    Coordinate,
    CoordinateIndex,
    CoordinateRange,
    after_news,
    check_update,
    check_version,
    clean_update,
    clock_of,
    covers,
    fits,
    insert_behind,
    plain_text,
    snapshot_version,
    state_vector,
    strip_deletes,
    update_clock,
    update_version,
)
from phextsync.sync.codec import decode, encode
from phextsync.sync.comparison import AUDIT, FOUND, RANGES, SKETCH, Comparison
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Unknown
from phextsync.sync.reconcile import Parameters
from phextsync.texts import BREAKS

_PLACE: Final = Coordinate(*[1] * 9)


@dataclass(frozen=True, slots=True)
class Target:
    """`is_compiled`: most of what it reaches is C, so it runs under the sanitizers."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    is_compiled: bool


# -- frames --------------------------------------------------------------------------------


def _frame(data: bytes) -> None:
    with suppress(ProtocolError):
        message = decode(data, Limits())
        if isinstance(message, Unknown):
            return  # it is skipped, never written
        again = decode(encode(message), Limits())
        assert (type(again), again) == (type(message), message)


# -- .phext files --------------------------------------------------------------------------


def _phextfile(data: bytes) -> None:
    for clamp in (False, True):
        with suppress(PhextFileError):
            scrolls = phextfile.read(data, clamp=clamp).joined()
            written = phextfile.implode(scrolls)
            assert phextfile.explode(written) == scrolls
            assert phextfile.normalize(written) == written


def _phextfile_seeds() -> list[bytes]:
    source = Random(1)
    seeds = [b"", b"text", b"\x17\x17two\x18three\x01far", "é\x1fü".encode(), b"\x17" * 999 + b"x"]
    for _ in range(20):
        pieces = source.choices([*BREAKS, "word", "\n", "é", "\U0001f600"], k=30)
        seeds.append("".join(pieces).encode())
    return seeds


# -- coordinates and ranges ----------------------------------------------------------------


def _coordinates(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse in (Coordinate.parse, Coordinate.parse_lenient):
        with suppress(CoordinateError):
            coordinate = parse(text)
            assert (
                Coordinate.parse(str(coordinate)) == coordinate == Coordinate.parse(coordinate.url)
            )
            assert Coordinate.from_key(coordinate.key) == coordinate
    with suppress(CoordinateError):
        range_ = CoordinateRange.parse(text)
        assert range_.upper is None or range_.lower < range_.upper
        assert range_.lower in range_
    with suppress(ValueError):
        assert Coordinate.from_key(data).key == data


def _coordinate_seeds() -> list[bytes]:
    texts = ["1.5.2/3.7.3/9.1.1", "1.5.2;3.7.3;9.1.1", "2.*", "2.*.*/*.*.*/*.*.*", "*"]
    texts += ["1.1.1/1.1.1/1.1.1..2.1.1/1.1.1/1.1.1", "..2.1.1/1.1.1/1.1.1", "999." * 8 + "999", ""]
    keys = [Coordinate(*[part] * 9).key for part in (1, 2, 998, 999)]
    return [*(text.encode() for text in texts), *keys, b"\xff" * 12, bytes(12)]


# -- comparisons ---------------------------------------------------------------------------


def _index(first: int, count: int) -> CoordinateIndex:
    index = CoordinateIndex(seed=1)
    for i in range(first, first + count):
        index.set(Coordinate(*(*[1 + i % 3] * 7, 1 + i // 9, 1 + i)), Random(i).randbytes(32), i)
    return index


_OURS: Final = _index(0, 150)


def _comparison(data: bytes) -> None:
    form, key, cut = data[:1], data[1:2], data[2:3]
    if not cut:
        return
    scope = [EVERYTHING] if key[0] & 1 else [CoordinateRange.parse("2.*")]
    comparison = Comparison(_OURS, scope, Parameters(4, 8, 4096), bytes(16))
    if key[0] & 2:
        comparison.begin(150 if key[0] & 4 else None)
    if key[0] & 8:
        comparison.begin_audit()
    body = data[3:]
    half = min(cut[0], len(body)) if key[0] & 16 else len(body)
    with suppress(ProtocolError):
        comparison.answer(form[0], body[:half])
        comparison.answer(RANGES, body[half:])


def _comparison_seeds() -> list[bytes]:
    theirs, seeds = _index(3, 150), []
    for form, how in ((RANGES, None), (SKETCH, 150)):
        other = Comparison(theirs, [EVERYTHING], Parameters(4, 8, 4096), bytes(16))
        turn = other.begin(how)
        ours = Comparison(_OURS, [EVERYTHING], Parameters(4, 8, 4096), bytes(16))
        for flags in range(4):
            seeds.append(bytes([form, flags, 0]) + turn.body)
        while turn.body and len(seeds) < 40:
            turn = ours.answer(turn.form, turn.body)
            ours, other = other, ours
            seeds.append(bytes([turn.form, 3, 0]) + turn.body)
    seeds += [bytes([FOUND, 7, 0]) + bytes(24), bytes([AUDIT, 9, 0]) + bytes(40)]
    return seeds


# -- updates and versions ------------------------------------------------------------------


def history(source: Random, steps: int) -> tuple[list[Scroll], list[bytes]]:
    """Return three scrolls that edited and exchanged, and all updates they made."""
    scrolls = [Scroll(_PLACE, source.getrandbits(50) * 4 + i) for i in range(3)]
    updates: list[bytes] = []
    for _ in range(steps):
        scroll = source.choice(scrolls)
        length = len(scroll.text)
        update: bytes | None
        match source.randrange(4):
            case 0 if length:
                start = source.randrange(length)
                update = scroll.delete(start, source.randint(start, length))
            case 1 if updates:
                update = scroll.apply(source.choice(updates)).update
            case _:
                text = source.choice(["a", "bc", "é", "\U0001f600", "line\n"])
                update = scroll.insert(source.randint(0, length), text)
        if update is not None:
            updates.append(update)
    return scrolls, updates


_FORMATTED: Final = bytes.fromhex("010207 00 04010474657874 026162 4607000004626f6c640474727565 00")


def _update_seeds() -> list[bytes]:
    seeds = [b"\0\0", _FORMATTED, import_update(_PLACE.key, "imported\n")]
    for seed in range(12):
        scrolls, updates = history(Random(seed), 4 + 2 * seed)
        seeds += [*(scroll.state() for scroll in scrolls), *updates[:4]]
        seeds += [scroll.version() for scroll in scrolls]
    return seeds


_HELD: Final = history(Random(5), 20)[0][0]


def _update(data: bytes) -> None:
    with suppress(UpdateError):
        check_version(data)
        assert covers(data, data)
        assert data.startswith(state_vector(data))
        covers(_HELD.version(), data)
        strip_deletes(_HELD.state(), data)
        clock_of(data, 7)
    for read in (plain_text, update_version, snapshot_version, clean_update, state_vector):
        with suppress(UpdateError):
            read(data)
    insert_behind(data, b"x")
    with suppress(UpdateError):
        check_update(data, ROOT)
        version = update_version(data)
        check_version(version)
        cleaned = clean_update(data)
        check_update(cleaned, ROOT)
        assert clean_update(cleaned) == cleaned
        update_clock(data, 7)
        held = state_vector(_HELD.version())
        assert fits(held, data) or after_news(held, data) is None
        check_update(strip_deletes(data, _HELD.version()), ROOT)


def _document(data: bytes) -> None:
    """What our reader lets pass neither panics nor aborts Yrs, and means the same to both."""
    scroll = Scroll(_PLACE, 1 << 40, [_HELD.state()] if data[:1] == b"\1" else [])
    before, held = scroll.version(), scroll.state()
    try:
        applied = scroll.apply(data[1:])
    except UpdateError:
        return
    except ScrollError as error:
        if "PanicException" in repr(error.__cause__):
            raise
        return
    if not applied.covered:
        assert scroll.version() == before
        return
    state = scroll.state()
    check_update(state, ROOT)
    if update_version(state) != scroll.version():
        # Yrs loses the other half of a character of two units that an update cuts in the middle
        # (docs/explanation/security.md); without such characters nothing differs.
        assert _has_two_units(data + held)
        return
    again = Scroll(_PLACE, 2, [state])
    # References that contradict each other may put the same text in another order when Yrs reads
    # it again (docs/explanation/security.md); nothing is lost or added.
    assert sorted(again.text) == sorted(scroll.text)
    assert again.version() == scroll.version()
    for update in (state, data[1:]) if before == EMPTY_VERSION else (state,):
        plain = plain_text(update)
        if plain is not None:
            assert plain.decode() == scroll.text
            assert update_version(update) == scroll.version()
    difference = scroll.difference(before)
    if difference is not None:
        check_update(difference, ROOT)


def _has_two_units(update: bytes) -> bool:
    """Whether bytes may begin a character beyond U+FFFF in UTF-8."""
    return any(0xF0 <= byte <= 0xF4 for byte in update)


def _document_seeds() -> list[bytes]:
    return [flag + update for update in _update_seeds() for flag in (b"\0", b"\1")]


TARGETS: Final = {
    "frames": Target(_frame, scripts.frame_seeds, is_compiled=False),
    "phextfile": Target(_phextfile, _phextfile_seeds, is_compiled=False),
    "http": Target(web.run_http, web.http_seeds, is_compiled=False),
    "editors": Target(editors.run_editors, editors.editor_seeds, is_compiled=False),
    "protocol": Target(scripts.run_protocol, scripts.protocol_seeds, is_compiled=False),
    "control": Target(desk.run_control, desk.control_seeds, is_compiled=False),
    "coordinates": Target(_coordinates, _coordinate_seeds, is_compiled=True),
    "comparison": Target(_comparison, _comparison_seeds, is_compiled=True),
    "updates": Target(_update, _update_seeds, is_compiled=True),
    "documents": Target(_document, _document_seeds, is_compiled=True),
    "index": Target(scripts.run_index, scripts.index_seeds, is_compiled=True),
}
