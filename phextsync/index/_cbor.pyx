# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""CBOR (RFC 8949) of plain values: arrays of definite length, integers, strings, null, booleans, and
numbers of 64 bits with a point.

Whatever else there is, and whatever is malformed, is left to a whole reader: nearly all frames are
read here, in a fraction of its time. What is read may come from a peer: reading never goes past the
end, and an array takes no more memory than bytes are there for its items.
"""

from libc.stdint cimport UINT64_MAX, uint8_t, uint64_t
from libc.string cimport memcpy

from cpython.bool cimport PyBool_Check
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8

from phextsync.index._coordinate import Coordinate

cdef enum:
    UNSIGNED = 0
    NEGATIVE = 1
    BYTES = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    TAG = 6
    SIMPLE = 7
    FALSE = 0xF4
    TRUE = 0xF5
    NULL_ITEM = 0xF6
    DOUBLE = 0xFB
    DEPTH_MAX = 6  # of arrays
    KEY_BYTES = 12


cdef struct Reader:
    const uint8_t* at
    const uint8_t* end


cdef inline void open_reader(Reader* reader, bytes data) noexcept:
    reader.at = <const uint8_t*>PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)


cdef bint read_head(Reader* reader, int* kind, uint64_t* size) noexcept nogil:
    """Read the head of an item. False where it is malformed, or of no definite length."""
    cdef uint8_t head
    cdef int width
    if reader.at >= reader.end:
        return False
    head = reader.at[0]
    reader.at += 1
    kind[0] = head >> 5
    size[0] = head & 31
    if size[0] >= 24:
        width = 1 << (size[0] - 24) if size[0] < 28 else 0
        if width == 0 or width > reader.end - reader.at:
            return False
        size[0] = 0
        while width > 0:
            size[0] = size[0] << 8 | reader.at[0]
            reader.at += 1
            width -= 1
    if kind[0] == BYTES or kind[0] == TEXT:
        return size[0] <= <uint64_t>(reader.end - reader.at)
    return True


# -- reading -----------------------------------------------------------------------------------


cdef inline bytes read_bytes(Reader* reader, uint64_t size):
    cdef const uint8_t* start = reader.at
    reader.at += size
    return PyBytes_FromStringAndSize(<const char*>start, <Py_ssize_t>size)


cdef inline str read_text(Reader* reader, uint64_t size):
    """UnicodeDecodeError for a text that is no UTF-8."""
    cdef const uint8_t* start = reader.at
    reader.at += size
    return PyUnicode_DecodeUTF8(<const char*>start, <Py_ssize_t>size, NULL)


cdef object read_item(Reader* reader, int depth, bint* is_plain):
    """Return an item. Where it is not plain, or malformed, `is_plain` becomes False."""
    cdef int kind = 0
    cdef uint64_t size = 0
    cdef double number
    cdef const uint8_t* start = reader.at
    if not read_head(reader, &kind, &size):
        is_plain[0] = False
        return None
    if kind == UNSIGNED:
        return size
    if kind == BYTES:
        return read_bytes(reader, size)
    if kind == TEXT:
        return read_text(reader, size)
    if kind == ARRAY and depth > 0 and size <= <uint64_t>(reader.end - reader.at):
        return read_items(reader, <Py_ssize_t>size, depth - 1, is_plain)
    if kind == NEGATIVE:
        return -1 - <object>size
    if kind == SIMPLE and FALSE <= start[0] <= NULL_ITEM:
        return None if start[0] == NULL_ITEM else start[0] == TRUE
    if kind == SIMPLE and start[0] == DOUBLE:
        memcpy(&number, &size, sizeof(number))
        return number
    is_plain[0] = False
    return None


cdef list read_items(Reader* reader, Py_ssize_t count, int depth, bint* is_plain):
    cdef list items = PyList_New(count)
    cdef Py_ssize_t i
    cdef object item
    for i in range(count):
        item = read_item(reader, depth, is_plain) if is_plain[0] else None
        Py_INCREF(item)  # of which the list takes one
        PyList_SET_ITEM(items, i, item)
    return items


def cbor_array(bytes data not None):
    """Return the one array that `data` consists of, when it is well-formed and plain; else None."""
    cdef Reader reader
    cdef bint is_plain = True
    open_reader(&reader, data)
    try:
        value = read_item(&reader, DEPTH_MAX, &is_plain)
    except UnicodeDecodeError:
        return None
    return value if is_plain and reader.at == reader.end and type(value) is list else None


cdef bint read_head_of(Reader* reader, int wanted, uint64_t size_max, uint64_t* size) noexcept nogil:
    """Read the head of an item of a kind that is no larger. False where there is another one."""
    cdef int kind = 0
    return read_head(reader, &kind, size) and kind == wanted and size[0] <= size_max


cdef tuple read_entry(Reader* reader, uint64_t time_max):
    """Return coordinate, update and time; None where there is something else."""
    cdef uint64_t size = 0
    cdef bytes short_key, update
    if not read_head_of(reader, BYTES, KEY_BYTES, &size):
        return None
    short_key = read_bytes(reader, size)
    if not read_head_of(reader, BYTES, UINT64_MAX, &size):
        return None
    update = read_bytes(reader, size)
    if not read_head_of(reader, UNSIGNED, time_max, &size):
        return None
    return Coordinate.from_short_key(short_key), update, size


def cbor_live(
    bytes data not None, uint64_t kind, uint64_t name_max, uint64_t count_max, uint64_t time_max
):
    """Return name and entries of `[kind, name, [short key, update, time, ...]]` within the limits:
    bytes of the name, how many entries, the last time. None where `data` is anything else."""
    cdef Reader reader
    cdef uint64_t size = 0
    cdef list entries = []
    open_reader(&reader, data)
    if not read_head_of(&reader, ARRAY, 3, &size) or size < 3:
        return None
    if not read_head_of(&reader, UNSIGNED, kind, &size) or size < kind:
        return None
    if not read_head_of(&reader, TEXT, name_max, &size):
        return None
    try:
        phext = read_text(&reader, size)
        if not read_head_of(&reader, ARRAY, 3 * count_max, &size) or size % 3:
            return None
        while size > 0:
            entry = read_entry(&reader, time_max)
            if entry is None:
                return None
            entries.append(entry)
            size -= 3
    except ValueError:  # of a text that is no UTF-8, or a key that is no coordinate's
        return None
    return (phext, tuple(entries)) if reader.at == reader.end else None


def cbor_items(bytes data not None):
    """Return how many items CBOR has, those of arrays included, up to where it is malformed.

    A reader makes an object of each: one of a byte may take fifty.
    """
    cdef Reader reader
    cdef uint64_t count = 0, size = 0
    cdef int kind = 0
    open_reader(&reader, data)
    while reader.at < reader.end:
        count += 1
        if not read_head(&reader, &kind, &size):
            break
        if kind == BYTES or kind == TEXT:
            reader.at += size
    return count


def cbor_size(bytes data not None):
    """Return how many bytes the first item of CBOR takes, which must be well-formed and of
    definite length."""
    cdef Reader reader
    cdef uint64_t left = 1, size = 0
    cdef int kind = 0
    open_reader(&reader, data)
    while left > 0 and reader.at < reader.end and read_head(&reader, &kind, &size):
        left -= 1
        if kind == BYTES or kind == TEXT:
            reader.at += size
        elif kind == ARRAY:
            left += size
        elif kind == MAP:
            left += 2 * size
        elif kind == TAG:
            left += 1
    return len(data) - (reader.end - reader.at)


# -- writing -----------------------------------------------------------------------------------


cdef inline Py_ssize_t head_bytes(uint64_t size) noexcept nogil:
    return 1 if size < 24 else 2 if size < 1 << 8 else 3 if size < 1 << 16 else (
        5 if size >> 32 == 0 else 9
    )


cdef uint8_t* write_bits(uint8_t* at, uint64_t bits, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(width):
        at[i] = <uint8_t>(bits >> (8 * (width - 1 - i)))
    return at + width


cdef uint8_t* write_head(uint8_t* at, int kind, uint64_t size) noexcept nogil:
    cdef Py_ssize_t width = head_bytes(size) - 1
    if width == 0:
        at[0] = <uint8_t>(kind << 5 | size)
        return at + 1
    at[0] = <uint8_t>(
        kind << 5 | (24 if width == 1 else 25 if width == 2 else 26 if width == 4 else 27)
    )
    return write_bits(at + 1, size, width)


cdef Py_ssize_t measure(object item, int depth) except -1:
    """Return how many bytes an item takes. TypeError for one that is not plain."""
    cdef Py_ssize_t size = 0, i
    if type(item) is bytes:
        size = PyBytes_GET_SIZE(item)
        return head_bytes(size) + size
    if type(item) is str:
        PyUnicode_AsUTF8AndSize(item, &size)
        return head_bytes(size) + size
    if item is None or PyBool_Check(item):
        return 1
    if type(item) is float:
        return 9
    if type(item) is int:
        return head_bytes(PyLong_AsUnsignedLongLong(item if item >= 0 else -1 - item))
    if type(item) is list and depth > 0:
        size = head_bytes(PyList_GET_SIZE(item))
        for i in range(PyList_GET_SIZE(item)):
            size += measure(<object>PyList_GET_ITEM(item, i), depth - 1)
        return size
    raise TypeError(f"expected a plain value, found {type(item).__name__}")


cdef uint8_t* write_item(uint8_t* at, object item) except NULL:
    """Write an item that was measured."""
    cdef Py_ssize_t size = 0, i
    cdef const char* text
    cdef double number
    cdef uint64_t bits
    if type(item) is bytes:
        at = write_head(at, BYTES, PyBytes_GET_SIZE(item))
        memcpy(at, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
        return at + PyBytes_GET_SIZE(item)
    if type(item) is str:
        text = PyUnicode_AsUTF8AndSize(item, &size)
        at = write_head(at, TEXT, size)
        memcpy(at, text, size)
        return at + size
    if item is None or PyBool_Check(item):
        at[0] = NULL_ITEM if item is None else TRUE if item else FALSE
        return at + 1
    if type(item) is float:
        number = PyFloat_AS_DOUBLE(item)
        memcpy(&bits, &number, sizeof(bits))
        at[0] = DOUBLE
        return write_bits(at + 1, bits, 8)
    if type(item) is int:
        if item >= 0:
            return write_head(at, UNSIGNED, PyLong_AsUnsignedLongLong(item))
        return write_head(at, NEGATIVE, PyLong_AsUnsignedLongLong(-1 - item))
    at = write_head(at, ARRAY, PyList_GET_SIZE(item))
    for i in range(PyList_GET_SIZE(item)):
        at = write_item(at, <object>PyList_GET_ITEM(item, i))
    return at


def cbor_bytes(list array not None):
    """Return an array as CBOR, in the shortest form. TypeError when something in it is not plain,
    OverflowError for an integer of more than 64 bits, UnicodeEncodeError for a lone surrogate."""
    cdef bytes data = PyBytes_FromStringAndSize(NULL, measure(array, DEPTH_MAX))
    write_item(<uint8_t*>PyBytes_AS_STRING(data), array)
    return data
