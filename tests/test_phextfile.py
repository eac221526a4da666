""".phext files are read and written as the reference implementations do."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync import phextfile
from phextsync.errors import CoordinateError, PhextFileError
from phextsync.index import ORIGIN, Coordinate
from phextsync.texts import BREAKS
from tests.strategies import coordinates, documents

_VECTORS = json.loads((Path(__file__).parent / "vectors" / "phext.json").read_text())["vectors"]
_SAMPLES = Path(__file__).parents[1] / "examples" / "samples"
_REFERENCE = Path(__file__).parents[2] / "shared" / "phext" / "samples"  # of the phext project
_BREAK_NAMES = (
    *("library", "shelf", "series", "collection", "volume", "book"),
    *("chapter", "section", "scroll"),
)
_BEYOND = {"monthly-beer-production-in-australia.phext", "tracer.phext"}
_parse = Coordinate.parse


def _vectors(*operations: str) -> list[object]:
    # Some references write a part of 1000, which none of them can read back; ours refuses it.
    chosen = [
        vector
        for vector in _VECTORS
        if vector["op"] in operations and 1000 not in vector["input"].get("parts", [])
    ]
    assert chosen
    return [pytest.param(v, id=f"{v['op']}-{i}") for i, v in enumerate(chosen)]


def _run(operation: str, given_: dict[str, object]) -> object:
    phext = str(given_.get("phext", ""))
    match operation:
        case "coord_format":
            return str(Coordinate(*given_["parts"]))  # type: ignore[misc]
        case "coord_url":
            return Coordinate(*given_["parts"]).url  # type: ignore[misc]
        case "coord_compare":
            a, b = _parse(str(given_["a"])), _parse(str(given_["b"]))
            return (a > b) - (a < b)
        case "sort":
            return [str(c) for c in sorted(map(_parse, given_["coords"]))]  # type: ignore[call-overload]
        case "coord_break":
            names = given_["breaks"]
            breaks = "".join(BREAKS[_BREAK_NAMES.index(n)] for n in names)  # type: ignore[attr-defined]
            start = phextfile.breaks_between(ORIGIN, _parse(str(given_["coord"])))
            return str(phextfile.parse(start + breaks + "x", clamp=True).scrolls[0][0])
        case "explode":
            scrolls = phextfile.parse(phext).scrolls
            return [[str(c), text] for c, text in sorted(dict(scrolls).items())]
        case "implode":
            return phextfile.implode((_parse(c), text) for c, text in given_["scrolls"])  # type: ignore[attr-defined]
        case "merge":
            return phextfile.merge(str(given_["left"]), str(given_["right"]))
        case "fetch" | "remove":
            return getattr(phextfile, operation)(phext, _parse(str(given_["coord"])))
        case "replace" | "insert":
            function = getattr(phextfile, operation)
            return function(phext, _parse(str(given_["coord"])), str(given_["text"]))
        case _:
            return getattr(phextfile, operation)(phext)


@pytest.mark.parametrize(
    "vector",
    _vectors(
        *("coord_format", "coord_url", "coord_compare", "sort", "coord_break", "explode"),
        *("implode", "fetch", "remove", "normalize", "merge", "textmap", "checksum"),
    ),
)
def test_an_operation_gives_what_the_reference_implementations_give(
    vector: dict[str, dict[str, object]],
) -> None:
    assert _run(str(vector["op"]), vector["input"]) == vector["output"]


@pytest.mark.parametrize("vector", _vectors("replace", "insert"))
def test_an_edit_gives_the_scrolls_that_the_reference_implementations_give(
    vector: dict[str, dict[str, object]],
) -> None:
    # The implementations edit in place and keep redundant breaks; ours writes the canonical form.
    expected = phextfile.normalize(str(vector["output"]))
    assert _run(str(vector["op"]), vector["input"]) == expected


@pytest.mark.parametrize("vector", _vectors("coord_parse"))
def test_a_coordinate_is_accepted_or_refused_as_the_references_do(
    vector: dict[str, dict[str, object]],
) -> None:
    text = str(vector["input"]["text"])
    if vector["output"]["valid"]:
        assert list(_parse(text).parts) == vector["output"]["parts"]
    else:
        with pytest.raises(CoordinateError):
            _parse(text)


@pytest.mark.parametrize("vector", _vectors("file_facts"))
def test_a_file_of_the_phext_project_has_its_known_facts_where_it_lies_beside_this_one(
    vector: dict[str, dict[str, object]],
) -> None:
    path = _REFERENCE / Path(str(vector["input"]["file"])).name
    if not path.exists():
        pytest.skip("the files of the phext project are not beside this one")
    data, facts = path.read_bytes(), vector["output"]
    parsed = phextfile.read(data, clamp=True)
    written = phextfile.implode(parsed.joined())
    assert phextfile.read(written.encode(), clamp=True).joined() == parsed.joined()
    assert facts["bytes"] == len(data)
    assert facts["checksum"] == phextfile.checksum(data.decode())
    if parsed.collisions:
        with pytest.raises(PhextFileError, match="beyond"):
            phextfile.read(data)
        return
    assert facts.get("nonempty_scrolls", len(parsed.scrolls)) == len(parsed.scrolls)
    assert str(parsed.scrolls[0][0]) == facts.get("first", str(parsed.scrolls[0][0]))
    if "normalized_checksum" in facts:
        assert phextfile.checksum(written) == facts["normalized_checksum"]
        assert len(written.encode()) == facts["normalized_bytes"]
    if facts.get("normalized_checksum") == facts["checksum"]:
        assert written.encode() == data


def test_every_file_of_the_phext_project_is_read_or_refused_with_one_line() -> None:
    if not _REFERENCE.is_dir():
        pytest.skip("the files of the phext project are not beside this one")
    for path in sorted(_REFERENCE.glob("*.phext")):
        if path.name in _BEYOND:
            with pytest.raises(PhextFileError, match="expected coordinates up to 999") as refusal:
                phextfile.read(path.read_bytes())
            assert "\n" not in str(refusal.value)
            assert phextfile.read(path.read_bytes(), clamp=True).scrolls
        else:
            scrolls = phextfile.read(path.read_bytes()).scrolls
            assert phextfile.explode(phextfile.implode(scrolls)) == dict(scrolls)


@pytest.mark.parametrize(
    ("name", "count", "first", "last", "is_canonical"),
    [
        ("gaps", 3, "1.1.1/1.1.1/1.1.4", "1.1.1/1.1.2/1.1.1", False),
        ("garden", 16, "1.1.1/1.1.1/1.1.1", "2.2.2/2.1.1/1.1.1", True),
        ("minutes", 3, "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.2.1", True),
    ],
)
def test_a_sample_file_has_its_scrolls_and_survives_a_round_trip(
    name: str, count: int, first: str, last: str, is_canonical: bool
) -> None:
    data = (_SAMPLES / f"{name}.phext").read_bytes()
    scrolls = phextfile.read(data).scrolls
    assert (len(scrolls), str(scrolls[0][0]), str(scrolls[-1][0])) == (count, first, last)
    written = phextfile.implode(scrolls)
    assert phextfile.explode(written) == dict(scrolls)
    assert (written.encode() == data) is is_canonical


def test_a_sample_file_beyond_the_last_coordinate_is_refused_or_joined_there() -> None:
    data = (_SAMPLES / "steps.phext").read_bytes()
    with pytest.raises(PhextFileError, match=r"expected coordinates up to 999.*at byte 1037"):
        phextfile.read(data)
    (collision,) = phextfile.read(data, clamp=True).collisions
    assert (str(collision.coordinate), collision.texts) == ("1.1.1/1.1.1/1.1.999", 5)


@settings(deadline=None)
@given(st.dictionaries(coordinates, documents, max_size=8))
def test_what_is_written_is_read_back(scrolls: dict[Coordinate, str]) -> None:
    text = phextfile.implode(scrolls)
    assert phextfile.explode(text) == {c: t for c, t in scrolls.items() if t}
    assert phextfile.normalize(text) == text


@given(st.text(st.sampled_from(BREAKS + "ab\n"), max_size=60))
def test_normalizing_keeps_every_scroll(text: str) -> None:
    assert phextfile.explode(phextfile.normalize(text)) == phextfile.explode(text)


@given(st.text("\x01\x17\x18ab", max_size=60), st.integers(1, 9))
def test_a_phext_in_pieces_is_read_as_in_one(text: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [scroll for ended in phextfile.parse_in_steps(pieces) for scroll in ended]
    assert tuple(found) == phextfile.parse(text, clamp=True).scrolls


@given(st.dictionaries(coordinates, documents, max_size=8))
def test_a_phext_is_written_in_pieces_as_in_one(scrolls: dict[Coordinate, str]) -> None:
    full = sorted((place, text) for place, text in scrolls.items() if text)
    assert "".join(phextfile.implode_in_steps(full)) == phextfile.implode(full)


def test_bytes_that_are_not_utf_8_are_refused_with_their_offset() -> None:
    with pytest.raises(PhextFileError, match="found byte 0xff at offset 3"):
        phextfile.read(b"abc\xff")


def test_a_zero_byte_is_refused_with_its_offset() -> None:
    with pytest.raises(PhextFileError, match="found a zero byte at offset 5; leave it out"):
        phextfile.read("é\x17a\n\0b".encode())


def test_a_break_beyond_999_is_refused_or_read_with_a_report() -> None:
    text = "\x17" * 998 + "one\x17two\x17three"
    with pytest.raises(PhextFileError, match=r"beyond 1\.1\.1/1\.1\.1/1\.1\.999 at byte 1002"):
        phextfile.parse(text)
    parsed = phextfile.parse(text, clamp=True)
    place = _parse("1.1.1/1.1.1/1.1.999")
    assert parsed.collisions == (phextfile.Collision(place, 3),)
    assert parsed.joined() == {place: "one\ntwo\nthree"}


def test_breaks_beyond_999_without_text_there_lose_nothing() -> None:
    assert phextfile.parse("\x17" * 1500 + "\x18one").scrolls == (
        (_parse("1.1.1/1.1.1/1.2.1"), "one"),
    )


def test_a_break_in_a_text_is_written_as_its_picture() -> None:
    assert phextfile.has_breaks("a\x17b")
    assert phextfile.has_breaks("a\0b")
    assert phextfile.implode({ORIGIN: "a\x17b\x01\0"}) == "a\u2417b\u2401\u2400"


def test_a_byte_order_mark_and_carriage_returns_are_text() -> None:
    assert phextfile.read(b"\xef\xbb\xbfa\r\nb").scrolls == ((ORIGIN, "\ufeffa\r\nb"),)


def test_a_summary_is_cut_at_a_whole_character() -> None:
    assert phextfile.summary("é" * 17) == "é" * 16 + "..."
    assert phextfile.summary("short\nmore") == "short..."
