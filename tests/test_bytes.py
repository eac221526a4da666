"""The compiled reader of updates agrees with a plain one, and with pycrdt, on all bytes."""

from contextlib import suppress

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import history
from phextsync.crdt import ROOT, Scroll
from phextsync.errors import UpdateError
from phextsync.index import (
    EMPTY_VERSION,
    Coordinate,
    after_news,
    appended,
    check_update,
    check_version,
    clean_update,
    clock_of,
    covers,
    encode_plain_insert,
    fits,
    insert_behind,
    plain_text,
    snapshot_version,
    state_vector,
    strip_deletes,
    update_clock,
    update_version,
    version_behind,
)
from phextsync.varints import read_varints, varints
from tests import update_model
from tests.strategies import texts

_PLACE = Coordinate(*[1] * 9)


_histories = st.builds(history, st.randoms(use_true_random=False), st.integers(1, 30))


@settings(max_examples=150, deadline=None)
@given(_histories)
def test_versions_and_coverage_agree_with_the_plain_reader(
    history: tuple[list[Scroll], list[bytes]],
) -> None:
    scrolls, updates = history
    versions = [scroll.version() for scroll in scrolls]
    for scroll, version in zip(scrolls, versions, strict=True):
        state = scroll.state()
        model = update_model.read_update(state)
        check_update(state, ROOT)
        check_version(version)
        assert update_version(state) == version == update_model.version(model)
        assert pycrdt.get_state(state).startswith(state_vector(version)[:1])
        for client, ranges in model.structs.items():
            end = max(end for _, end in ranges)
            assert clock_of(version, client) == update_clock(state, client) == end
        assert clock_of(version, 1 << 52) == update_clock(state, 1 << 52) == 0
        for update in updates:
            check_update(update, ROOT)
            assert fits(state_vector(version), update) == _fits(model, update)
            is_news = after_news(state_vector(version), update) is not None
            assert is_news == _is_news(model, update)
        for other in versions:
            theirs = update_model.read_update(scrolls[versions.index(other)].state())
            assert covers(version, other) == (
                not update_model.lacking(theirs.structs, model.structs)
                and not update_model.lacking(theirs.deletes, model.deletes)
            )


def _fits(model: update_model.Update, update: bytes) -> bool:
    """Whether a pycrdt document with the model's structs has all of the update afterwards."""
    read = update_model.read_update(update)
    both = {
        client: model.structs.get(client, []) + read.structs.get(client, [])
        for client in {*model.structs, *read.structs}
    }
    if any(len(update_model.merged(r)) > 1 or min(r)[0] for r in both.values()):
        return False
    return not update_model.lacking({**read.deletes, **_joined(read)}, both)


def _is_news(model: update_model.Update, update: bytes) -> bool:
    read = update_model.read_update(update)
    ends = {client: max(end for _, end in ranges) for client, ranges in model.structs.items()}
    return (
        _fits(model, update)
        and bool(read.structs)
        and not read.deletes
        and all(ranges[0][0] >= ends.get(client, 0) for client, ranges in read.structs.items())
    )


@given(_histories)
def test_what_is_news_takes_effect_as_it_is(history: tuple[list[Scroll], list[bytes]]) -> None:
    scrolls, updates = history
    for scroll in scrolls:
        for update in updates:
            after = after_news(state_vector(scroll.version()), update)
            if after is None:
                continue
            document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
            document.get(ROOT, type=pycrdt.Text)
            document.apply_update(scroll.state())
            observed: list[bytes] = []
            subscription = document.observe(lambda event, into=observed: into.append(event.update))
            document.apply_update(update)
            document.unobserve(subscription)
            assert _clocks(after) == _clocks(document.get_state())
            found = update_model.read_update(observed[0])
            given_ = update_model.read_update(update)
            assert not found.deletes
            assert {c: update_model.merged(r) for c, r in found.structs.items()} == {
                c: update_model.merged(r) for c, r in given_.structs.items()
            }


def _clocks(state_vector: bytes) -> dict[int, int]:
    _, *pairs = read_varints(state_vector)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


@given(st.lists(texts.filter(bool), min_size=2, max_size=6), st.text("ab"), st.booleans())
def test_an_insertion_behind_the_last_is_what_pycrdt_would_make(
    pieces: list[str], before: str, is_cut: bool
) -> None:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc(client_id=7)
    text = document.get(ROOT, type=pycrdt.Text)
    observed: list[bytes] = []
    subscription = document.observe(lambda event: observed.append(event.update))
    if before:
        text.insert(0, before)
        if is_cut:
            del text[len(before) - 1 :]
    made: bytes | None = None
    for piece in pieces:
        text.insert(len(text), piece)
        if made is not None:
            made = insert_behind(made, piece.encode())
            assert made == clean_update(observed[-1])
        else:
            made = clean_update(observed[-1])
            made = made if insert_behind(made, b"x") is not None else None
    document.unobserve(subscription)


def test_nothing_is_inserted_behind_what_is_not_one_string_at_the_end() -> None:
    scroll = Scroll(_PLACE, 7)
    first = scroll.append("ab")
    assert first is not None
    assert insert_behind(first, b"c") is not None
    assert insert_behind(scroll.insert(0, "x") or b"", b"c") is None
    assert insert_behind(scroll.delete(0, 1) or b"", b"c") is None
    assert insert_behind(scroll.state(), b"c") is None
    assert insert_behind(b"", b"c") is None


@given(
    st.lists(st.tuples(st.integers(0, 1), texts.filter(bool)), min_size=1, max_size=6),
    texts.filter(bool),
    st.booleans(),
)
def test_what_is_appended_in_turn_says_where_it_stands_and_what_the_version_is_then(
    turns: list[tuple[int, str]], before: str, is_cut: bool
) -> None:
    scrolls = [Scroll(_PLACE, 7), Scroll(_PLACE, 9)]
    first = scrolls[0].append(before + "x")
    assert first is not None
    assert appended(first) is None  # behind nothing
    scrolls[1].apply(first)
    if is_cut:
        cut = scrolls[1].delete(len(before), len(before) + 1)
        assert cut is not None
        assert appended(cut) is None
        scrolls[0].apply(cut)
    version = scrolls[0].version()
    last, updates = None, list[bytes]()
    for writer, text in turns:
        update = scrolls[writer].append(text)
        assert update is not None
        scrolls[1 - writer].apply(update)
        told = appended(update)
        if told is None:  # it stands before what was deleted
            last, updates, version = None, [], scrolls[0].version()
            continue
        origin, end, found = told
        assert found.decode() == text
        assert last is None or origin == last
        assert end == ((7, 9)[writer], update_clock(update, (7, 9)[writer]) - 1)
        last = end
        updates.append(update)
    assert version_behind(version, updates) == Scroll(_PLACE, 5, [scrolls[0].state()]).version()


def test_no_version_comes_of_what_is_not_one_string_at_the_end() -> None:
    scroll = Scroll(_PLACE, 7)
    scroll.append("ab")
    update = scroll.insert(0, "x")
    assert update is not None
    assert appended(update) is None
    with pytest.raises(ValueError, match="expected one string"):
        version_behind(EMPTY_VERSION, [update])


def _joined(read: update_model.Update) -> update_model.Ranges:
    """Return what an update deletes and refers to."""
    return {
        client: [*read.deletes.get(client, []), *read.origins.get(client, [])]
        for client in {*read.deletes, *read.origins}
    }


@settings(max_examples=100, deadline=None)
@given(_histories)
def test_stripping_leaves_exactly_the_deletions_that_are_lacking(
    history: tuple[list[Scroll], list[bytes]],
) -> None:
    scrolls, _ = history
    for a in scrolls:
        for b in scrolls:
            state, held = a.state(), update_model.read_update(b.state()).deletes
            stripped = strip_deletes(state, b.version())
            check_update(stripped, ROOT)
            before, after = update_model.read_update(state), update_model.read_update(stripped)
            assert after.structs == before.structs
            assert update_model.lacking(after.deletes, {}) == update_model.lacking(
                before.deletes, held
            )


@settings(max_examples=150, deadline=None)
@given(_histories)
def test_plain_text_is_the_text_or_nothing(history: tuple[list[Scroll], list[bytes]]) -> None:
    for scroll in history[0]:
        text = plain_text(scroll.state())
        assert text is None or text.decode() == scroll.text


@given(texts.filter(bool), st.integers(0, 2**53 - 1))
def test_an_insertion_is_encoded_as_pycrdt_encodes_it(text: str, client: int) -> None:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc(client_id=client)
    document.get(ROOT, type=pycrdt.Text).insert(0, text)
    update = encode_plain_insert(client, ROOT, text.encode())
    assert update == document.get_update()
    assert plain_text(update) == text.encode()
    assert update_version(update) == snapshot_version(pycrdt.Snapshot.from_doc(document).encode())


def test_an_append_log_is_plain_even_after_deletions() -> None:
    scroll = Scroll(_PLACE, 7)
    for i in range(20):
        scroll.append(f"line {i}\n")
    scroll.delete(0, 7)
    assert plain_text(scroll.state()) == scroll.text.encode()


def test_a_snapshot_in_any_order_and_with_split_ranges_has_one_version() -> None:
    # delete set, then state vector, as Yjs and Yrs write them
    ordered = b"\2\1\1\0\3\2\1\5\2\2\1\3\2\7"
    shuffled = b"\2\2\1\5\2\1\2\1\2\0\1\2\2\7\1\3"
    assert snapshot_version(ordered) == snapshot_version(shuffled)
    check_version(snapshot_version(shuffled))
    assert clock_of(snapshot_version(shuffled), 2) == 7


@settings(max_examples=300, deadline=None)
@given(_histories, st.data())
def test_changed_bytes_are_read_alike_or_refused_and_never_kill(
    history: tuple[list[Scroll], list[bytes]], data: st.DataObject
) -> None:
    changed = bytearray(data.draw(st.sampled_from([s.state() for s in history[0]])))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    mutated = bytes(changed)
    version = history[0][0].version()
    for function in (plain_text, update_version):
        try:
            function(mutated)
        except UpdateError:
            continue
    try:
        check_update(mutated, ROOT)
    except UpdateError:
        return
    model = update_model.read_update(mutated)
    assert update_version(mutated) == update_model.version(model)
    strip_deletes(mutated, version)
    with suppress(UpdateError):  # half of a character that is known
        fits(state_vector(version), mutated)
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    document.get(ROOT, type=pycrdt.Text)
    document.apply_update(clean_update(mutated))  # neither an error nor a panic
    plain = plain_text(mutated)
    if plain is not None:
        assert plain.decode() == str(document.get(ROOT, type=pycrdt.Text))
        whole = snapshot_version(pycrdt.Snapshot.from_doc(document).encode())
        assert update_version(mutated) == whole


def test_a_deletion_of_nothing_is_no_part_of_a_version() -> None:
    update = bytearray(encode_plain_insert(2, ROOT, b"ab"))
    update[-1:] = b"\1\2\2\0\1\1\0"  # client 2 deletes one letter from 0 on, and none from 1 on
    assert update_version(bytes(update)) == b"\1\2\2\1\2\1\0\1"
    update[-7:] = b"\1\2\1\1\0"
    assert update_version(bytes(update)) == b"\1\2\2\0"
    assert update_version(bytes(update)) == update_model.version(
        update_model.read_update(bytes(update))
    )


@pytest.mark.parametrize("struct", [b"\0\3", b"\1\1\4text\3"])
def test_what_has_no_content_is_deleted_though_no_delete_set_names_it(struct: bytes) -> None:
    update = b"\1\1\5\0" + struct + b"\0"
    assert Scroll(_PLACE, 1, [update]).version() == update_version(update) == b"\1\5\3\1\5\1\0\3"


def test_only_a_document_tells_what_hangs_on_garbage() -> None:
    # Yrs makes garbage of it: the text was "abc" until a document was made, and none from then on.
    update = b"\1\2\x09\0\0\3\x84\x09\2\3abc\0"
    assert Scroll(_PLACE, 1, [update]).text == ""
    assert plain_text(update) is None


def test_empty_structs_that_yrs_writes_are_left_out() -> None:
    # What Yrs wrote of a gap, an inserted letter, and the empty half of a string that it cut.
    update = bytes.fromhex(
        "0103f381ceb0d6888105000a05c4f6a29ee5bcfba10702f6a29ee5bcfba1070302c3a9"
        "c4f381ceb0d688810505f6a29ee5bcfba107030000"
    )
    cleaned = bytes.fromhex(
        "0102f381ceb0d6888105000a05c4f6a29ee5bcfba10702f6a29ee5bcfba1070302c3a900"
    )
    assert clean_update(update) == cleaned
    assert clean_update(cleaned) is cleaned


def test_a_client_without_structs_is_left_out() -> None:
    update = b"\1\0\7\0\0"
    assert clean_update(update) == b"\0\0"
    assert plain_text(update) is None


def test_what_would_wait_for_other_updates_leaves_no_trace() -> None:
    author = Scroll(_PLACE, 1)
    base, more, deletion = author.append("base"), author.append(" more"), author.delete(0, 2)
    reader = Scroll(_PLACE, 2)
    for update in (more, deletion):
        assert update is not None
        assert not reader.apply(update).covered
        assert reader.state() == b"\0\0"
        assert reader.version() == EMPTY_VERSION
    other = Scroll(_PLACE, 3).append("other")
    assert other is not None
    reader.apply(other)
    assert reader.text == "other"
    reader = Scroll(_PLACE, 2)
    for update in (base, more, deletion):
        assert update is not None
        assert reader.apply(update).covered
    assert (reader.text, reader.version()) == (author.text, author.version())
    assert update_version(reader.state()) == author.version()


@pytest.mark.parametrize(
    ("update", "found"),
    [
        (b"", "found the end"),
        (b"\0\0\0", "found more bytes"),
        (b"\xff" * 12, "an integer below"),
        (b"\xff\xff\xff\xff\xff\xff\x7f", "found the end"),
        (b"\1\xff\xff\xff\xff\x7f\1\0", "found the end"),
        (b"\1\1\1\0\4\1\4text\xff\xff\xff\xff\x0f", "found the end"),
        (b"\1\1\1\xff\xff\xff\xff\x7f\4\1\4text\1a\0", "clocks below"),
        (b"\1\1\xff\xff\xff\xff\xff\xff\xff\xff\x1f\0\4\1\4text\1a\0", "a client id below"),
        (b"\1\1\1\0\4\1\4text\1\xff\0", "well-formed UTF-8"),
        (b"\1\1\1\0\4\1\5other\1a\0", "another root"),
        (b"\1\1\1\0\x24\1\4text\1a\1a\0", "an entry of a map"),
        (b"\1\1\1\0\4\0\1\1\1a\0", "a nested type"),
        (b"\1\1\1\0\7\1\4text\0\0", "an embed, a nested type or a document"),
        (b"\1\1\1\0\x80\1\0", "found another"),
        (b"\1\2\x09\0\0\3\x84\x09\2\3abc\0", "the rest of a nested type"),
        (b"\1\1\1\5\x84\1\5\1a\0", "that were there before"),
        (b"\1\1\1\5\x44\1\6\1a\0", "that were there before"),
        (b"\1\1\1\5\xc4\2\1\2\1\1a\0", "that were there before"),
        (b"\0\1\1\1\xff\xff\xff\xff\7\1", "clocks below"),
    ],
)
def test_bytes_that_are_no_update_are_refused_with_what_was_expected(
    update: bytes, found: str
) -> None:
    with pytest.raises(UpdateError, match=found):
        check_update(update, ROOT)


@pytest.mark.parametrize(
    "version",
    [
        b"\1\1\0\0",  # a clock of 0
        b"\2\2\1\1\1\0",  # clients descend
        b"\2\1\1\1\1\0",  # a client twice
        b"\0\1\1\0",  # no ranges
        b"\0\1\1\1\0\0",  # an empty range
        b"\0\1\1\2\0\1\0\1",  # ranges that touch
        b"\0\0\0",  # left over
        b"\0",
        b"",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_a_version_that_is_not_canonical_is_refused(version: bytes) -> None:
    with pytest.raises(UpdateError):
        check_version(version)


def test_the_empty_version_is_covered_by_all_and_covers_nothing_else() -> None:
    update = encode_plain_insert(1, ROOT, b"a")
    version = update_version(update)
    assert covers(version, EMPTY_VERSION)
    assert not covers(EMPTY_VERSION, version)
    assert update_version(b"\0\0") == EMPTY_VERSION


def test_text_that_is_known_up_to_half_a_character_is_refused() -> None:
    # Found by fuzzing: Yrs cut the character and lost a half that its state vector counted.
    whole = "a\U0001f600b"
    update = encode_plain_insert(3, ROOT, whole.encode())
    assert all(fits(b"\1\3" + bytes([known]), update) for known in (0, 1, 3, 4))
    with pytest.raises(UpdateError, match="whole characters"):
        fits(b"\1\3\2", update)


@given(st.lists(st.integers(0, 1 << 70)))
def test_integers_arrive_whatever_their_size(values: list[int]) -> None:
    assert read_varints(varints(*values)) == values
    assert read_varints(varints(*values, 300)[:-1]) == values  # the last one is cut off
