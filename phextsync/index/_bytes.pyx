# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Yjs updates and versions as bytes: checked, compared and cut without making a document.

Everything here may come from a peer. Reading never goes past the end, and no number that is read
decides how much memory is taken: arrays grow with the bytes that were really there.

Update (version 1 of the encoding, as Yjs and Yrs write it):

    update  = varint clients, { varint structs, varint client, varint clock, structs x struct },
              deletes
    struct  = 00 length / 0A length                                     ; garbage, gap
            / info [origin] [right origin] [parent] content
    deletes = varint clients, { varint client, varint ranges, ranges x (varint clock, length) }

Version, the canonical form of a state vector and a delete set:

    version = varint clients, { varint client, varint clock }           ; clock > 0, ascending
              varint clients, { varint client, varint ranges,           ; ranges > 0, ascending
                                ranges x (varint distance, varint length) }

where ranges are sorted and merged, and a distance is counted from the end of the range before.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from phextsync.errors import UpdateError

EMPTY_VERSION = b"\0\0"

cdef enum:
    GARBAGE = 0
    DELETED = 1
    STRING = 4
    FORMAT = 6
    GAP = 10
    HAS_ORIGIN = 0x80
    HAS_RIGHT_ORIGIN = 0x40
    HAS_PARENT_KEY = 0x20

cdef uint64_t CLIENT_END = <uint64_t>1 << 53
cdef uint64_t CLOCK_END = <uint64_t>1 << 31

# What can be wrong; `_raise` has the words.
cdef enum:
    OK = 0
    TRUNCATED
    BAD_VARINT
    BAD_CLIENT
    BAD_CLOCK
    BAD_CONTENT
    BAD_GARBAGE
    BAD_ORIGIN
    BAD_PARENT
    BAD_ROOT
    BAD_KEY
    BAD_TEXT
    CUT_TEXT
    BAD_INFO
    LEFT_OVER
    NOT_CANONICAL
    NO_MEMORY

cdef dict _EXPECTED = {
    TRUNCATED: "more bytes, found the end",
    BAD_VARINT: "an integer below 2**63, found more",
    BAD_CLIENT: "a client id below 2**53, found more",
    BAD_CLOCK: "clocks below 2**31, found more",
    BAD_CONTENT: "text, formats or deletions, found an embed, a nested type or a document",
    BAD_GARBAGE: "text, formats or deletions, found the rest of a nested type",
    BAD_ORIGIN: "text between two places that were there before, found others",
    BAD_PARENT: "text in the root, found it in a nested type",
    BAD_ROOT: "text in the one root of a scroll, found another root",
    BAD_KEY: "text, found an entry of a map",
    BAD_TEXT: "well-formed UTF-8, found other bytes",
    CUT_TEXT: "whole characters behind what is known, found half of one",
    BAD_INFO: "a known kind of struct, found another",
    LEFT_OVER: "the end, found more bytes",
    NOT_CANONICAL: "the canonical form, found another order or empty parts",
}


cdef struct Reader:
    const uint8_t* at
    const uint8_t* end
    const uint8_t* start
    int error


cdef struct Range:
    uint64_t client
    uint64_t start
    uint64_t end


cdef struct Ranges:
    Range* items
    Py_ssize_t count
    Py_ssize_t room


cdef struct Struct:
    uint64_t client
    uint64_t clock
    uint64_t length
    uint64_t origin_client
    uint64_t origin_clock
    uint64_t right_client
    uint64_t right_clock
    int kind
    int has_origin
    int has_right_origin
    const uint8_t* text
    Py_ssize_t text_bytes


# -- reading -----------------------------------------------------------------------------------


cdef inline void open_reader(Reader* reader, bytes data) noexcept:
    reader.start = <const uint8_t*>PyBytes_AS_STRING(data)
    reader.at = reader.start
    reader.end = reader.start + PyBytes_GET_SIZE(data)
    reader.error = OK


cdef inline void fail(Reader* reader, int error) noexcept nogil:
    if reader.error == OK:
        reader.error = error
    reader.at = reader.end


cdef inline uint64_t read_varint(Reader* reader) noexcept nogil:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        if reader.at >= reader.end:
            fail(reader, TRUNCATED)
            return 0
        byte = reader.at[0]
        reader.at += 1
        value |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
        if shift > 56:
            fail(reader, BAD_VARINT)
            return 0


cdef inline uint64_t read_client(Reader* reader) noexcept nogil:
    cdef uint64_t client = read_varint(reader)
    if client >= CLIENT_END:
        fail(reader, BAD_CLIENT)
    return client


cdef inline uint64_t read_clock(Reader* reader) noexcept nogil:
    cdef uint64_t clock = read_varint(reader)
    if clock >= CLOCK_END:
        fail(reader, BAD_CLOCK)
        return 0
    return clock


cdef inline Py_ssize_t read_bytes(Reader* reader, const uint8_t** found) noexcept nogil:
    cdef uint64_t count = read_varint(reader)
    if count > <uint64_t>(reader.end - reader.at):
        fail(reader, TRUNCATED)
        count = 0
    found[0] = reader.at
    reader.at += count
    return <Py_ssize_t>count


cdef Py_ssize_t utf16_units(const uint8_t* text, Py_ssize_t count) noexcept nogil:
    """Return the UTF-16 units of well-formed UTF-8, or -1."""
    cdef Py_ssize_t i = 0, units = 0
    cdef uint8_t first, second
    while i < count:
        first = text[i]
        if first < 0x80:
            i += 1
            units += 1
        elif first < 0xC2:
            return -1
        elif first < 0xE0:
            if i + 1 >= count or text[i + 1] & 0xC0 != 0x80:
                return -1
            i += 2
            units += 1
        elif first < 0xF0:
            if i + 2 >= count or text[i + 1] & 0xC0 != 0x80 or text[i + 2] & 0xC0 != 0x80:
                return -1
            second = text[i + 1]
            if (first == 0xE0 and second < 0xA0) or (first == 0xED and second >= 0xA0):
                return -1
            i += 3
            units += 1
        elif first < 0xF5:
            if (i + 3 >= count or text[i + 1] & 0xC0 != 0x80 or text[i + 2] & 0xC0 != 0x80
                    or text[i + 3] & 0xC0 != 0x80):
                return -1
            second = text[i + 1]
            if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second >= 0x90):
                return -1
            i += 4
            units += 2
        else:
            return -1
    return units


cdef void read_parent(
    Reader* reader, const uint8_t* root, Py_ssize_t root_bytes
) noexcept nogil:
    cdef const uint8_t* name
    cdef Py_ssize_t count
    if read_varint(reader) != 1:
        fail(reader, BAD_PARENT)
        return
    count = read_bytes(reader, &name)
    if reader.error == OK and root != NULL:
        if count != root_bytes or memcmp(name, root, root_bytes) != 0:
            fail(reader, BAD_ROOT)


cdef void read_content(Reader* reader, Struct* found) noexcept nogil:
    cdef const uint8_t* value
    cdef Py_ssize_t units, count
    cdef int i
    if found.kind == DELETED:
        found.length = read_clock(reader)
    elif found.kind == STRING:
        found.text_bytes = read_bytes(reader, &found.text)
        units = utf16_units(found.text, found.text_bytes)
        if units < 0:
            fail(reader, BAD_TEXT)
        found.length = <uint64_t>units
    elif found.kind == FORMAT:
        for i in range(2):  # name and value
            count = read_bytes(reader, &value)
            if utf16_units(value, count) < 0:
                fail(reader, BAD_TEXT)
        found.length = 1
    else:
        fail(reader, BAD_CONTENT)


cdef bint is_impossible(const Struct* found) noexcept nogil:
    """Whether what stands beside a struct came after it, or is one and the same.

    Yrs would place such text again each time that it reads it.
    """
    return (
        (found.has_origin and found.origin_client == found.client
            and found.origin_clock >= found.clock)
        or (found.has_right_origin and found.right_client == found.client
            and found.right_clock >= found.clock)
        or (found.has_origin and found.has_right_origin
            and found.origin_client == found.right_client
            and found.origin_clock == found.right_clock)
    )


cdef void read_struct(
    Reader* reader, Struct* found, const uint8_t* root, Py_ssize_t root_bytes
) noexcept nogil:
    """Read the struct of `found.client` at `found.clock`."""
    cdef uint8_t info
    if reader.at >= reader.end:
        fail(reader, TRUNCATED)
        return
    info = reader.at[0]
    reader.at += 1
    found.kind = info & 0x1F
    found.has_origin = info & HAS_ORIGIN
    found.has_right_origin = info & HAS_RIGHT_ORIGIN
    found.text_bytes = 0
    if found.kind == GARBAGE or found.kind == GAP:
        if info != found.kind:
            fail(reader, BAD_INFO)
        elif found.kind == GARBAGE and root != NULL:
            fail(reader, BAD_GARBAGE)
        found.length = read_clock(reader)
    else:
        if found.has_origin:
            found.origin_client = read_client(reader)
            found.origin_clock = read_clock(reader)
        if found.has_right_origin:
            found.right_client = read_client(reader)
            found.right_clock = read_clock(reader)
        if info & HAS_PARENT_KEY:
            fail(reader, BAD_KEY)
        elif is_impossible(found):
            fail(reader, BAD_ORIGIN)
        elif not found.has_origin and not found.has_right_origin:
            read_parent(reader, root, root_bytes)
        if reader.error == OK:
            read_content(reader, found)
    if found.clock + found.length >= CLOCK_END:
        fail(reader, BAD_CLOCK)


cdef int push(Ranges* ranges, uint64_t client, uint64_t start, uint64_t end) noexcept nogil:
    cdef Range* grown
    if ranges.count == ranges.room:
        ranges.room = 2 * ranges.room + 8
        grown = <Range*>realloc(ranges.items, ranges.room * sizeof(Range))
        if grown == NULL:
            return NO_MEMORY
        ranges.items = grown
    ranges.items[ranges.count].client = client
    ranges.items[ranges.count].start = start
    ranges.items[ranges.count].end = end
    ranges.count += 1
    return OK


cdef void read_deletes(Reader* reader, Ranges* deletes) noexcept nogil:
    """Read a delete set; `deletes` may be NULL."""
    cdef uint64_t clients = read_varint(reader), ranges, client, clock, length
    while clients > 0 and reader.error == OK:
        client = read_client(reader)
        ranges = read_varint(reader)
        while ranges > 0 and reader.error == OK:
            clock = read_clock(reader)
            length = read_clock(reader)
            if clock + length >= CLOCK_END:
                fail(reader, BAD_CLOCK)
            elif deletes != NULL and length and push(deletes, client, clock, clock + length):
                fail(reader, NO_MEMORY)
            ranges -= 1
        clients -= 1


cdef void read_structs(
    Reader* reader, Ranges* structs, Ranges* gone, const uint8_t* root, Py_ssize_t root_bytes
) noexcept nogil:
    """Read all structs; what is not a gap goes to `structs`, what has no content any more to
    `gone` as well, unless these are NULL."""
    cdef uint64_t clients = read_varint(reader), count
    cdef Struct found
    while clients > 0 and reader.error == OK:
        count = read_varint(reader)
        found.client = read_client(reader)
        found.clock = read_clock(reader)
        while count > 0 and reader.error == OK:
            read_struct(reader, &found, root, root_bytes)
            if (structs != NULL and found.kind != GAP and found.length and reader.error == OK
                    and push(structs, found.client, found.clock, found.clock + found.length)):
                fail(reader, NO_MEMORY)
            if (gone != NULL and (found.kind == GARBAGE or found.kind == DELETED)
                    and found.length and reader.error == OK
                    and push(gone, found.client, found.clock, found.clock + found.length)):
                fail(reader, NO_MEMORY)
            found.clock += found.length
            count -= 1
        clients -= 1


cdef void read_update(
    Reader* reader,
    Ranges* structs,
    Ranges* gone,
    Ranges* deletes,
    const uint8_t* root,
    Py_ssize_t root_bytes,
) noexcept nogil:
    read_structs(reader, structs, gone, root, root_bytes)
    if reader.error == OK:
        read_deletes(reader, deletes)
    if reader.error == OK and reader.at != reader.end:
        fail(reader, LEFT_OVER)


cdef int raise_error(int error, str what) except -1:
    if error == NO_MEMORY:
        raise MemoryError
    raise UpdateError(f"{what}: expected {_EXPECTED[error]}")


# -- ranges ------------------------------------------------------------------------------------


cdef int compare_ranges(const void* left, const void* right) noexcept nogil:
    cdef const Range* a = <const Range*>left
    cdef const Range* b = <const Range*>right
    if a.client != b.client:
        return -1 if a.client < b.client else 1
    if a.start != b.start:
        return -1 if a.start < b.start else 1
    return 0


cdef void merge_ranges(Ranges* ranges) noexcept nogil:
    """Sort by client and start, and join ranges that touch or overlap."""
    cdef Py_ssize_t i, last = 0
    cdef Range* items = ranges.items
    cdef bint is_sorted = True
    for i in range(1, ranges.count):
        if compare_ranges(&items[i - 1], &items[i]) > 0:
            is_sorted = False
            break
    if not is_sorted:
        qsort(items, ranges.count, sizeof(Range), compare_ranges)
    for i in range(1, ranges.count):
        if items[i].client == items[last].client and items[i].start <= items[last].end:
            if items[i].end > items[last].end:
                items[last].end = items[i].end
        else:
            last += 1
            items[last] = items[i]
    if ranges.count:
        ranges.count = last + 1


cdef bint contains(Ranges* ranges, uint64_t client, uint64_t start, uint64_t end) noexcept nogil:
    """Whether one of the merged ranges holds all of [start, end)."""
    cdef Py_ssize_t low = 0, high = ranges.count, middle
    cdef Range* item
    while low < high:  # the last range that does not begin after `start`
        middle = (low + high) // 2
        item = &ranges.items[middle]
        if item.client < client or (item.client == client and item.start <= start):
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return False
    item = &ranges.items[low - 1]
    return item.client == client and item.start <= start and end <= item.end


cdef bint contains_all(Ranges* ranges, Ranges* others) noexcept nogil:
    """Whether merged ranges hold all of others that are merged too. O(ranges)."""
    cdef Py_ssize_t i, j = 0
    cdef Range* item
    cdef Range* held
    for i in range(others.count):
        item = &others.items[i]
        while j < ranges.count and (
            ranges.items[j].client < item.client
            or (ranges.items[j].client == item.client and ranges.items[j].end < item.end)
        ):
            j += 1
        if j == ranges.count:
            return False
        held = &ranges.items[j]
        if held.client != item.client or held.start > item.start:
            return False
    return True


cdef int add_ranges(Ranges* ranges, Ranges* more) except -1:
    cdef Py_ssize_t i
    for i in range(more.count):
        if push(ranges, more.items[i].client, more.items[i].start, more.items[i].end):
            raise MemoryError
    merge_ranges(ranges)
    return 0


# -- writing -----------------------------------------------------------------------------------


cdef inline uint8_t* write_varint(uint8_t* at, uint64_t value) noexcept nogil:
    while value >= 0x80:
        at[0] = <uint8_t>(value & 0x7F | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


cdef uint64_t count_clients(Ranges* ranges) noexcept nogil:
    cdef uint64_t clients = 0
    cdef Py_ssize_t i
    for i in range(ranges.count):
        if i == 0 or ranges.items[i].client != ranges.items[i - 1].client:
            clients += 1
    return clients


cdef uint8_t* write_deletes(uint8_t* at, Ranges* ranges, bint relative) noexcept nogil:
    """Write merged ranges: with distances for a version, with clocks for an update."""
    cdef Py_ssize_t i = 0, j
    cdef uint64_t before
    at = write_varint(at, count_clients(ranges))
    while i < ranges.count:
        j = i
        while j < ranges.count and ranges.items[j].client == ranges.items[i].client:
            j += 1
        at = write_varint(at, ranges.items[i].client)
        at = write_varint(at, <uint64_t>(j - i))
        before = 0
        while i < j:
            at = write_varint(at, ranges.items[i].start - before)
            at = write_varint(at, ranges.items[i].end - ranges.items[i].start)
            if relative:
                before = ranges.items[i].end
            i += 1
    return at


cdef bytes write_version(Ranges* clocks, Ranges* deletes):
    """Write a version of merged clocks, which all begin at 0, and merged deletes."""
    # 9 bytes at most for a client, 5 for a clock; a client and a count may stand before each range.
    cdef Py_ssize_t room = 20 + 14 * clocks.count + 24 * deletes.count, i
    cdef bytes data = PyBytes_FromStringAndSize(NULL, room)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(data)
    cdef uint8_t* at = write_varint(start, <uint64_t>clocks.count)
    for i in range(clocks.count):
        at = write_varint(at, clocks.items[i].client)
        at = write_varint(at, clocks.items[i].end)
    at = write_deletes(at, deletes, True)
    return data[: at - start]


cdef void read_version(Reader* reader, Ranges* clocks, Ranges* deletes) noexcept nogil:
    """Read a version strictly: any other bytes than the canonical ones are an error."""
    cdef uint64_t clients, client, value, ranges, end
    cdef uint64_t last = 0
    cdef bint is_first = True
    cdef bint is_first_range
    clients = read_varint(reader)
    while clients > 0 and reader.error == OK:
        client = read_client(reader)
        value = read_clock(reader)
        if value == 0 or (not is_first and client <= last):
            fail(reader, NOT_CANONICAL)
        elif push(clocks, client, 0, value):
            fail(reader, NO_MEMORY)
        last = client
        is_first = False
        clients -= 1
    is_first = True
    clients = read_varint(reader)
    while clients > 0 and reader.error == OK:
        client = read_client(reader)
        ranges = read_varint(reader)
        if ranges == 0 or (not is_first and client <= last):
            fail(reader, NOT_CANONICAL)
        last = client
        is_first = False
        end = 0
        is_first_range = True
        while ranges > 0 and reader.error == OK:
            value = read_clock(reader)
            if value == 0 and not is_first_range:
                fail(reader, NOT_CANONICAL)
            end += value
            value = read_clock(reader)
            if value == 0:
                fail(reader, NOT_CANONICAL)
            elif end + value >= CLOCK_END:
                fail(reader, BAD_CLOCK)
            elif push(deletes, client, end, end + value):
                fail(reader, NO_MEMORY)
            end += value
            is_first_range = False
            ranges -= 1
        clients -= 1
    if reader.error == OK and reader.at != reader.end:
        fail(reader, LEFT_OVER)


cdef class _Sets:
    """Two sets of ranges that are freed with this object."""

    cdef Ranges clocks
    cdef Ranges deletes

    def __dealloc__(self):
        free(self.clocks.items)
        free(self.deletes.items)

    @staticmethod
    cdef _Sets of_version(bytes version):
        cdef _Sets sets = _Sets.__new__(_Sets)
        cdef Reader reader
        open_reader(&reader, version)
        read_version(&reader, &sets.clocks, &sets.deletes)
        if reader.error:
            raise_error(reader.error, "version")
        return sets


# -- what is public ----------------------------------------------------------------------------


def check_update(bytes update not None, str root not None):
    """Walk a whole update of a text in the root `root`. UpdateError says what was expected.

    Embeds, nested types, maps and other roots are refused; formats pass. So is garbage, which is
    what Yjs leaves of the text in a nested type: what hangs on it becomes garbage too when Yrs
    reads it, so that version and text would depend on whether a document was made. O(bytes).
    """
    cdef Reader reader
    cdef bytes name = root.encode()
    open_reader(&reader, update)
    read_update(
        &reader, NULL, NULL, NULL, <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
    )
    if reader.error:
        raise_error(reader.error, "update")


def check_version(bytes version not None):
    """Check that `version` is in canonical form. UpdateError says what was expected."""
    _Sets.of_version(version)


def update_version(bytes update not None):
    """Return the version of a document from its whole state as one update.

    An update that leaves a gap before one of its clocks counts from 0 on all the same. A struct
    without content counts as deleted, as it does in a document, even if no delete set names it.
    """
    cdef _Sets sets = _Sets.__new__(_Sets)
    cdef _Sets gone = _Sets.__new__(_Sets)
    cdef Reader reader
    cdef Py_ssize_t i
    open_reader(&reader, update)
    read_update(&reader, &sets.clocks, &gone.deletes, &sets.deletes, NULL, 0)
    if reader.error:
        raise_error(reader.error, "update")
    for i in range(sets.clocks.count):
        sets.clocks.items[i].start = 0
    merge_ranges(&sets.clocks)
    merge_ranges(&sets.deletes)
    merge_ranges(&gone.deletes)
    if not contains_all(&sets.deletes, &gone.deletes):  # no document writes such a state
        add_ranges(&sets.deletes, &gone.deletes)
    return write_version(&sets.clocks, &sets.deletes)


def snapshot_version(bytes snapshot not None):
    """Return the version that an encoded Yjs snapshot (delete set, state vector) stands for."""
    cdef _Sets sets = _Sets.__new__(_Sets)
    cdef Reader reader
    cdef uint64_t clients, client, clock
    open_reader(&reader, snapshot)
    read_deletes(&reader, &sets.deletes)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        client = read_client(&reader)
        clock = read_clock(&reader)
        if clock and push(&sets.clocks, client, 0, clock):
            fail(&reader, NO_MEMORY)
        clients -= 1
    if reader.error == OK and reader.at != reader.end:
        fail(&reader, LEFT_OVER)
    if reader.error:
        raise_error(reader.error, "snapshot")
    merge_ranges(&sets.clocks)
    merge_ranges(&sets.deletes)
    return write_version(&sets.clocks, &sets.deletes)


def covers(bytes version not None, bytes other not None):
    """Whether `version` has everything that the version `other` has."""
    cdef _Sets have = _Sets.of_version(version)
    cdef _Sets need = _Sets.of_version(other)
    return is_covered(have, need)


cdef bint is_covered(_Sets have, _Sets need) noexcept:
    cdef Py_ssize_t i
    cdef Range* item
    for i in range(need.clocks.count):
        item = &need.clocks.items[i]
        if not contains(&have.clocks, item.client, item.start, item.end):
            return False
    merge_ranges(&need.deletes)
    return contains_all(&have.deletes, &need.deletes)


def state_vector(bytes version not None):
    """Return the state vector of `version` as Yjs encodes it."""
    cdef Reader reader
    cdef uint64_t clients
    open_reader(&reader, version)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        read_varint(&reader)
        read_varint(&reader)
        clients -= 1
    if reader.error:
        raise_error(reader.error, "version")
    return version[: reader.at - reader.start]


def clock_of(bytes version not None, uint64_t client):
    """Return the clock of `client` in `version`, 0 when it is not there."""
    cdef Reader reader
    cdef uint64_t clients, found, clock
    open_reader(&reader, version)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        found = read_varint(&reader)
        clock = read_varint(&reader)
        if found == client:
            return clock
        clients -= 1
    if reader.error:
        raise_error(reader.error, "version")
    return 0


def update_clock(bytes update not None, uint64_t client):
    """Return where the structs of `client` in `update` end, 0 when there are none."""
    cdef Reader reader
    cdef uint64_t clients, count, end = 0
    cdef Struct found
    open_reader(&reader, update)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        count = read_varint(&reader)
        found.client = read_client(&reader)
        found.clock = read_clock(&reader)
        while count > 0 and reader.error == OK:
            read_struct(&reader, &found, NULL, 0)
            found.clock += found.length
            if found.client == client and found.kind != GAP and found.clock > end:
                end = found.clock
            count -= 1
        clients -= 1
    if reader.error:
        raise_error(reader.error, "update")
    return end


def root_clients(bytes update not None):
    """Return the clients whose first struct in `update` hangs on no other text, ascending.

    They wrote into the empty scroll, each without knowing of the others.
    """
    cdef Reader reader
    cdef uint64_t clients, count
    cdef Struct found
    cdef list roots = []
    open_reader(&reader, update)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        count = read_varint(&reader)
        found.client = read_client(&reader)
        found.clock = read_clock(&reader)
        while count > 0 and reader.error == OK:
            read_struct(&reader, &found, NULL, 0)
            if found.clock == 0 and not found.has_origin and not found.has_right_origin:
                roots.append(found.client)
            found.clock += found.length
            count -= 1
        clients -= 1
    if reader.error:
        raise_error(reader.error, "update")
    return sorted(roots)


cdef class _Strings:
    """Walks the structs of an update, and stands behind them afterwards."""

    cdef Reader reader
    cdef Struct found
    cdef uint64_t clients
    cdef uint64_t count

    def __cinit__(self, bytes update not None):
        open_reader(&self.reader, update)
        self.clients = read_varint(&self.reader)
        self.count = 0
        self.found.length = 0

    cdef bint next(self) except -1:
        """Read the next struct; whether there is one. UpdateError when it cannot be read."""
        self.found.clock += self.found.length
        while self.count == 0 and self.clients > 0 and self.reader.error == OK:
            self.count = read_varint(&self.reader)
            self.found.client = read_client(&self.reader)
            self.found.clock = read_clock(&self.reader)
            self.clients -= 1
        if self.count > 0 and self.reader.error == OK:
            self.count -= 1
            read_struct(&self.reader, &self.found, NULL, 0)
            if self.reader.error == OK:
                return True
        if self.reader.error:
            raise_error(self.reader.error, "update")
        return False


def inserted_text(bytes update not None):
    """Return the texts that an update inserts, one behind the other, in UTF-8. O(bytes)."""
    cdef _Strings structs = _Strings(update)
    cdef list pieces = []
    while structs.next():
        if structs.found.kind == STRING:
            pieces.append(structs.found.text[: structs.found.text_bytes])
    return b"".join(pieces)


def low_halves(bytes update not None):
    """Return client and clock of the second half of each character beyond U+FFFF that an update
    inserts: places at which its text must not be cut. O(bytes)."""
    cdef _Strings structs = _Strings(update)
    cdef set halves = set()
    cdef Py_ssize_t i
    cdef uint64_t clock
    cdef uint8_t byte
    while structs.next():
        if structs.found.kind != STRING:
            continue
        clock = structs.found.clock
        for i in range(structs.found.text_bytes):
            byte = structs.found.text[i]
            if byte >= 0xF0:
                halves.add((structs.found.client, clock + 1))
                clock += 2
            elif byte < 0x80 or byte >= 0xC0:
                clock += 1
    return halves


def cuts(bytes update not None, set halves not None):
    """Whether an update cuts a character whose second half is in `halves`: inserts between its
    halves, begins in it, or deletes one of them. O(bytes)."""
    cdef _Strings structs = _Strings(update)
    cdef Struct* found
    cdef _Sets sets = _Sets.__new__(_Sets)
    cdef Py_ssize_t i
    cdef Range* item
    while structs.next():
        found = &structs.found
        if (
            (found.client, found.clock) in halves
            or (found.has_origin and (found.origin_client, found.origin_clock + 1) in halves)
            or (found.has_right_origin and (found.right_client, found.right_clock) in halves)
        ):
            return True
    read_deletes(&structs.reader, &sets.deletes)
    if structs.reader.error:
        raise_error(structs.reader.error, "update")
    merge_ranges(&sets.deletes)
    for i in range(sets.deletes.count):
        item = &sets.deletes.items[i]
        if (item.client, item.start) in halves or (item.client, item.end) in halves:
            return True
    return False


def strip_deletes(bytes update not None, bytes version not None):
    """Return `update` with only those deletions that `version` lacks."""
    cdef _Sets have = _Sets.of_version(version)
    cdef _Sets sets = _Sets.__new__(_Sets)
    cdef Reader reader
    cdef Py_ssize_t head, i, j = 0
    cdef uint64_t start
    cdef Range* item
    cdef Range* held
    open_reader(&reader, update)
    read_structs(&reader, NULL, NULL, NULL, 0)
    head = reader.at - reader.start
    if reader.error == OK:
        read_deletes(&reader, &sets.deletes)
    if reader.error:
        raise_error(reader.error, "update")
    merge_ranges(&sets.deletes)
    for i in range(sets.deletes.count):
        item = &sets.deletes.items[i]
        start = item.start
        while j < have.deletes.count and (
            have.deletes.items[j].client < item.client
            or (have.deletes.items[j].client == item.client and have.deletes.items[j].end <= start)
        ):
            j += 1
        while start < item.end:
            held = &have.deletes.items[j]
            if j == have.deletes.count or held.client != item.client or held.start >= item.end:
                if push(&sets.clocks, item.client, start, item.end):
                    raise MemoryError
                break
            if start < held.start and push(&sets.clocks, item.client, start, held.start):
                raise MemoryError
            start = held.end
            if start < item.end:
                j += 1
    return update[:head] + deletes_bytes(&sets.clocks)


def clean_update(bytes update not None):
    """Return `update` without empty structs, and without clients that have none.

    Yrs leaves empty structs behind where it cuts text, writes them out, and divides by zero when
    it reads some of them; clients without structs it cannot take.
    """
    cdef Reader reader
    cdef Struct found
    cdef uint64_t clients, count, kept, first
    cdef bint is_clean = True
    cdef const uint8_t* start
    cdef list blocks = []
    cdef list pieces
    open_reader(&reader, update)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        count = read_varint(&reader)
        found.client = read_client(&reader)
        found.clock = first = read_clock(&reader)
        kept = 0
        pieces = []
        while count > 0 and reader.error == OK:
            start = reader.at
            read_struct(&reader, &found, NULL, 0)
            if found.length:
                pieces.append(start[: reader.at - start])
                kept += 1
            else:
                is_clean = False
            found.clock += found.length
            count -= 1
        if kept:
            blocks.append(varint_bytes(kept) + varint_bytes(found.client) + varint_bytes(first))
            blocks.append(b"".join(pieces))
        else:
            is_clean = False
        clients -= 1
    if reader.error:
        raise_error(reader.error, "update")
    if is_clean:
        return update
    tail = update[reader.at - reader.start :]
    return varint_bytes(len(blocks) // 2) + b"".join(blocks) + tail


def fits(bytes state_vector not None, bytes update not None):
    """Whether all of `update` can take effect in a document with this state vector.

    That is: its clocks follow on without a gap, and all that it refers to or deletes is in the
    document or in the update. The state vector is as Yjs encodes it, in any order. UpdateError
    when the document has half of a character of the update.
    """
    return fit(state_vector, update, _Sets.__new__(_Sets)) != NOT


def after_news(bytes state_vector not None, bytes update not None):
    """Return the state vector of the document after `update`, if that fits, none of it is in the
    document yet, and it deletes nothing: then what takes effect of it is all of it. Else None."""
    cdef _Sets sets = _Sets.__new__(_Sets)
    if fit(state_vector, update, sets) != WHOLLY_NEW:
        return None
    sets.deletes.count = 0
    data = write_version(&sets.clocks, &sets.deletes)
    return data[:len(data) - 1]  # without the empty delete set


cdef enum:
    NOT
    FITTING
    WHOLLY_NEW


cdef int fit(bytes state_vector, bytes update, _Sets sets) except -1:
    """Say how an update fits, and fill empty `sets`: the clocks that there will be, merged, and in
    place of deletes what is needed."""
    cdef Reader reader
    cdef Struct found
    cdef uint64_t clients, count, clock, held
    cdef Py_ssize_t i, known, needed
    cdef Range* item
    cdef bint is_new = False
    open_reader(&reader, state_vector)
    clients = read_varint(&reader)
    while clients > 0 and reader.error == OK:
        found.client = read_client(&reader)
        clock = read_clock(&reader)
        if clock and push(&sets.clocks, found.client, 0, clock):
            fail(&reader, NO_MEMORY)
        clients -= 1
    if reader.error:
        raise_error(reader.error, "state vector")
    known = sets.clocks.count
    open_reader(&reader, update)
    clients = read_varint(&reader)
    is_new = clients > 0
    while clients > 0 and reader.error == OK:
        count = read_varint(&reader)
        found.client = read_client(&reader)
        found.clock = read_clock(&reader)
        is_new &= count > 0
        held = 0
        for i in range(known):
            item = &sets.clocks.items[i]
            if item.client == found.client and item.end > held:
                held = item.end
        is_new &= held <= found.clock
        while count > 0 and reader.error == OK:
            read_struct(&reader, &found, NULL, 0)
            if reader.error == OK and is_cut(&found, held):
                fail(&reader, CUT_TEXT)
            if reader.error == OK and found.kind != GAP:
                need_struct(&reader, &found, sets)
            is_new &= found.length > 0
            found.clock += found.length
            count -= 1
        clients -= 1
    needed = sets.deletes.count
    if reader.error == OK:
        read_deletes(&reader, &sets.deletes)
    if reader.error:
        raise_error(reader.error, "update")
    is_new &= sets.deletes.count == needed
    merge_ranges(&sets.clocks)
    for i in range(sets.clocks.count):
        if sets.clocks.items[i].start != 0:
            return NOT
    for i in range(sets.deletes.count):
        item = &sets.deletes.items[i]
        if not contains(&sets.clocks, item.client, item.start, item.end):
            return NOT
    return WHOLLY_NEW if is_new else FITTING


cdef bint is_cut(const Struct* found, uint64_t held) noexcept nogil:
    """Whether a string is known up to the middle of a character of two units, where Yrs would
    cut it and lose the other half."""
    cdef Py_ssize_t i = 0
    cdef uint64_t clock = found.clock
    if found.kind != STRING or held <= clock or held >= clock + found.length:
        return False
    while clock < held:
        clock += 2 if found.text[i] >= 0xF0 else 1
        i += 1
        while i < found.text_bytes and found.text[i] & 0xC0 == 0x80:
            i += 1
    return clock != held


cdef void need_struct(Reader* reader, Struct* found, _Sets sets) noexcept:
    """Note that a struct will be there, and what it refers to."""
    cdef bint has_origin = found.kind != GARBAGE and found.has_origin
    cdef bint has_right = found.kind != GARBAGE and found.has_right_origin
    if (
        (found.length
            and push(&sets.clocks, found.client, found.clock, found.clock + found.length))
        or (has_origin and push(
            &sets.deletes, found.origin_client, found.origin_clock, found.origin_clock + 1))
        or (has_right and push(
            &sets.deletes, found.right_client, found.right_clock, found.right_clock + 1))
    ):
        fail(reader, NO_MEMORY)


cdef bytes varint_bytes(uint64_t value):
    cdef uint8_t data[10]
    return (<const char*>data)[: write_varint(data, value) - data]


cdef bytes deletes_bytes(Ranges* deletes):
    """Return merged ranges as the delete set of an update."""
    cdef bytes data = PyBytes_FromStringAndSize(NULL, 20 + 24 * deletes.count)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(data)
    return data[: write_deletes(start, deletes, False) - start]


cdef Py_ssize_t single_text(
    const uint8_t* update, Py_ssize_t count, const uint8_t** text
) noexcept nogil:
    """Find the text of a state that is one insertion and nothing else: return its bytes, or -1
    when the state is not of this form."""
    cdef Reader reader
    cdef Struct found
    reader.start = reader.at = update
    reader.end = update + count
    reader.error = OK
    if read_varint(&reader) != 1 or read_varint(&reader) != 1:
        return -1
    found.client = read_client(&reader)
    found.clock = read_clock(&reader)
    if found.clock != 0:
        return -1
    read_struct(&reader, &found, NULL, 0)
    if reader.error != OK or found.kind != STRING or found.length == 0:
        return -1
    if found.has_origin or found.has_right_origin or read_varint(&reader) != 0:
        return -1
    if reader.error != OK or reader.at != reader.end:
        return -1
    text[0] = found.text
    return found.text_bytes


def plain_text(bytes update not None):
    """Return the text of a whole state in UTF-8, or None when only a document can tell.

    It is plain when one client wrote it in one go: each piece directly behind the one before,
    deleted pieces without their text.
    """
    cdef Reader reader
    cdef Struct found
    cdef uint64_t clients, count
    cdef list pieces = []
    cdef _Sets sets = _Sets.__new__(_Sets)
    cdef Py_ssize_t i, j
    open_reader(&reader, update)
    clients = read_varint(&reader)
    if clients != 1:
        return None
    count = read_varint(&reader)
    found.client = read_client(&reader)
    found.clock = read_clock(&reader)
    if found.clock != 0 or count == 0:
        return None
    while count > 0 and reader.error == OK:
        read_struct(&reader, &found, NULL, 0)
        if reader.error != OK or found.length == 0:
            return None
        if found.kind != STRING and found.kind != DELETED:
            return None
        if found.has_right_origin or bool(found.has_origin) != (found.clock > 0):
            return None
        if found.has_origin and (
            found.origin_client != found.client or found.origin_clock + 1 != found.clock
        ):
            return None
        if found.kind == STRING:
            pieces.append(found.text[: found.text_bytes])
            if push(&sets.clocks, found.client, found.clock, found.clock + found.length):
                raise MemoryError
        found.clock += found.length
        count -= 1
    read_deletes(&reader, &sets.deletes)
    if reader.error or reader.at != reader.end:
        return None
    if sets.clocks.count * sets.deletes.count > 10000:
        return None
    for i in range(sets.deletes.count):
        if sets.deletes.items[i].client != found.client or sets.deletes.items[i].end > found.clock:
            return None
        for j in range(sets.clocks.count):
            if (sets.deletes.items[i].start < sets.clocks.items[j].end
                    and sets.clocks.items[j].start < sets.deletes.items[i].end):
                return None
    return b"".join(pieces)


def encode_plain_insert(uint64_t client, str root not None, bytes text not None):
    """Return the update by which `client` inserts `text` (UTF-8, not empty) into nothing."""
    cdef bytes name = root.encode()
    cdef uint8_t head[48]
    cdef uint8_t size[10]
    cdef uint8_t* at = head
    if client >= CLIENT_END:
        raise ValueError(f"expected a client id below 2**53, found {client}")
    if not text or len(name) > 16:
        raise ValueError("expected a text and a root name of at most 16 bytes")
    at[0] = 1
    at[1] = 1
    at = write_varint(at + 2, client)
    at[0] = 0
    at[1] = STRING
    at[2] = 1
    at[3] = <uint8_t>len(name)
    at += 4
    return (
        (<const char*>head)[: at - head]
        + name
        + (<const char*>size)[: write_varint(size, <uint64_t>len(text)) - size]
        + text
        + b"\0"
    )


def insert_behind(bytes update not None, bytes text not None):
    """Return the update by which the client of `update` inserts `text` (UTF-8, not empty) behind
    what that inserted; None unless that is one string with nothing to its right."""
    cdef Reader reader
    cdef Struct found
    cdef uint8_t head[64]
    cdef uint8_t size[10]
    cdef uint8_t* at = head
    cdef uint64_t last
    open_reader(&reader, update)
    if not is_last_string(&reader, &found):
        return None
    last = found.clock + found.length - 1
    at[0] = 1
    at[1] = 1
    at = write_varint(at + 2, found.client)
    at = write_varint(at, last + 1)
    at[0] = HAS_ORIGIN | STRING
    at = write_varint(at + 1, found.client)
    at = write_varint(at, last)
    return (
        (<const char*>head)[: at - head]
        + (<const char*>size)[: write_varint(size, <uint64_t>len(text)) - size]
        + text
        + b"\0"
    )


def appended(bytes update not None):
    """Return behind what an update inserts its text, as client and clock, the last character of
    that text, the same way, and the text in UTF-8. None unless the update is one string behind
    another, with nothing to its right."""
    cdef Reader reader
    cdef Struct found
    open_reader(&reader, update)
    if not is_last_string(&reader, &found) or not found.has_origin:
        return None
    return (
        (found.origin_client, found.origin_clock),
        (found.client, found.clock + found.length - 1),
        found.text[: found.text_bytes],
    )


def version_behind(bytes version not None, list updates not None):
    """Return the version of a document that has `version`, when it has taken `updates`, each one
    string with nothing to its right, which begins where its client had ended."""
    cdef _Sets sets = _Sets.of_version(version)
    cdef Reader reader
    cdef Struct found
    cdef bytes update
    for update in updates:
        open_reader(&reader, update)
        if not is_last_string(&reader, &found):
            raise ValueError("expected one string with nothing to its right, found another update")
        if push(&sets.clocks, found.client, 0, found.clock + found.length):
            raise MemoryError
    merge_ranges(&sets.clocks)
    return write_version(&sets.clocks, &sets.deletes)


cdef bint is_last_string(Reader* reader, Struct* found) noexcept nogil:
    """Whether an update is one string with nothing to its right; read it."""
    if read_varint(reader) != 1 or read_varint(reader) != 1:
        return False
    found.client = read_client(reader)
    found.clock = read_clock(reader)
    read_struct(reader, found, NULL, 0)
    return (
        reader.error == OK and found.kind == STRING and found.length != 0
        and not found.has_right_origin and reader.end - reader.at == 1 and reader.at[0] == 0
    )
