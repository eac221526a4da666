# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Coordinates and ranges of coordinates. A coordinate is nine numbers from 1 to 999."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from cpython.tuple cimport PyTuple_GET_ITEM

from phextsync.errors import CoordinateError


cdef extern from *:
    """
    #define ascii_data(text) ((const unsigned char *)PyUnicode_1BYTE_DATA(text))
    #define text_length(text) PyUnicode_GET_LENGTH(text)
    #define is_ascii(text) PyUnicode_IS_ASCII(text)
    """
    const unsigned char* ascii_data(object text)
    bint is_ascii(object text)
    Py_ssize_t text_length(object text)
    int PyUnicode_1BYTE_KIND
    str PyUnicode_FromKindAndData(int kind, const void* buffer, Py_ssize_t size)


cdef enum:
    PART_MAX = 999


cdef inline uint64_t high(const uint32_t* parts) noexcept nogil:
    return (
        <uint64_t>parts[0] << 50 | <uint64_t>parts[1] << 40 | <uint64_t>parts[2] << 30
        | <uint64_t>parts[3] << 20 | <uint64_t>parts[4] << 10 | parts[5]
    )


cdef inline uint32_t low(const uint32_t* parts) noexcept nogil:
    return parts[6] << 20 | parts[7] << 10 | parts[8]


cdef inline void split(uint64_t hi, uint32_t lo, uint32_t* parts) noexcept nogil:
    parts[0] = <uint32_t>(hi >> 50)
    parts[1] = <uint32_t>(hi >> 40) & 1023
    parts[2] = <uint32_t>(hi >> 30) & 1023
    parts[3] = <uint32_t>(hi >> 20) & 1023
    parts[4] = <uint32_t>(hi >> 10) & 1023
    parts[5] = <uint32_t>hi & 1023
    parts[6] = lo >> 20
    parts[7] = (lo >> 10) & 1023
    parts[8] = lo & 1023


cdef inline uint32_t part_of(Coordinate coordinate, int part) noexcept:
    cdef uint32_t parts[9]
    split(coordinate._hi, coordinate._lo, parts)
    return parts[part]


cdef str written(uint64_t hi, uint32_t lo, uint8_t divider):
    """Write the nine numbers, with `divider` between the groups."""
    cdef uint32_t parts[9]
    cdef char text[36]
    cdef char* at = text
    cdef int i
    split(hi, lo, parts)
    for i in range(9):
        if parts[i] >= 100:
            at[0] = <char>(c"0" + parts[i] // 100)
            at += 1
        if parts[i] >= 10:
            at[0] = <char>(c"0" + parts[i] // 10 % 10)
            at += 1
        at[0] = <char>(c"0" + parts[i] % 10)
        at[1] = <char>(divider if i == 2 or i == 5 else c".")
        at += 2
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, text, at - text - 1)


cdef Coordinate make_coordinate(uint64_t hi, uint32_t lo):
    cdef Coordinate made = Coordinate.__new__(Coordinate)
    made._hi = hi
    made._lo = lo
    return made


cdef inline const uint8_t* scan_part(const uint8_t* at, uint32_t* part) noexcept nogil:
    """Read one to three digits; return where they end, NULL when there is none."""
    cdef uint32_t value = <uint32_t>at[0] - c"0", digit
    if value > 9:
        return NULL
    digit = <uint32_t>at[1] - c"0"
    if digit > 9:
        part[0] = value
        return at + 1
    value = value * 10 + digit
    digit = <uint32_t>at[2] - c"0"
    if digit > 9:
        part[0] = value
        return at + 2
    part[0] = value * 10 + digit
    return at + 3


cdef inline bint scan_plain(const uint8_t* at, const uint8_t* end, uint32_t* parts) noexcept nogil:
    """Read the canonical or the URL form, as nearly every text has it. A zero must follow it."""
    cdef bint is_plain = True
    cdef int i
    for i in range(9):
        at = scan_part(at, parts + i)
        if at == NULL:
            return False
        is_plain &= parts[i] != 0
        if i == 8:
            is_plain &= at == end
        elif i == 2 or i == 5:
            is_plain &= (at[0] == c"/") | (at[0] == c";")
        else:
            is_plain &= at[0] == c"."
        if not is_plain:
            return False
        at += 1
    return True


cdef bint scan_parts(const unsigned char* at, Py_ssize_t count, uint32_t* parts) noexcept nogil:
    """Read nine numbers in the canonical or the URL form; signs and leading zeros are accepted."""
    cdef const unsigned char* end = at + count
    cdef uint32_t value
    cdef int i, digits
    while at < end and (at[0] == c" " or (9 <= at[0] and at[0] <= 13)):
        at += 1
    while at < end and ((end - 1)[0] == c" " or (9 <= (end - 1)[0] and (end - 1)[0] <= 13)):
        end -= 1
    for i in range(9):
        value = 0
        digits = 0
        if at < end and at[0] == c"+":
            at += 1
        while at < end and c"0" <= at[0] and at[0] <= c"9" and digits < 9:
            value = value * 10 + (at[0] - c"0")
            at += 1
            digits += 1
        if digits == 0 or value < 1 or value > PART_MAX:
            return False
        parts[i] = value
        if i == 8:
            return at == end
        if at == end:
            return False
        if i == 2 or i == 5:
            if at[0] != c"/" and at[0] != c";":
                return False
        elif at[0] != c".":
            return False
        at += 1
    return False


cdef bint try_key(str text, Key* key) noexcept:
    """Read a coordinate; return whether `text` is one."""
    cdef uint32_t parts[9]
    cdef const uint8_t* data
    cdef Py_ssize_t count
    if not is_ascii(text):
        return False
    data = ascii_data(text)
    count = text_length(text)
    if not (scan_plain(data, data + count, parts) or scan_parts(data, count, parts)):
        return False
    key.hi = high(parts)
    key.lo = low(parts)
    return True


cdef int parse_key(str text, Key* key) except -1:
    if not try_key(text, key):
        raise CoordinateError(
            f"expected nine numbers from 1 to 999 such as 1.5.2/3.7.3/9.1.1, found {text!r:.80}"
        )
    return 0


cdef int tuple_key(tuple numbers, Key* key) except -1:
    cdef uint32_t parts[9]
    cdef Py_ssize_t i
    cdef long value
    if len(numbers) != 9:
        raise CoordinateError(f"expected nine numbers, found {len(numbers)}")
    try:
        for i in range(9):
            value = <object>PyTuple_GET_ITEM(numbers, i)
            if value < 1 or value > PART_MAX:
                raise OverflowError
            parts[i] = <uint32_t>value
    except OverflowError:
        raise CoordinateError(
            f"expected nine numbers from 1 to 999, found {numbers[i]!r:.40}"
        ) from None
    key.hi = high(parts)
    key.lo = low(parts)
    return 0


cdef uint64_t _FIRST_HIGH = <uint64_t>1 << 50 | <uint64_t>1 << 40 | 1 << 30 | 1 << 20 | 1 << 10 | 1
cdef uint32_t _FIRST_LOW = 1 << 20 | 1 << 10 | 1


cdef void key_data(uint64_t hi, uint32_t lo, uint8_t* at) noexcept nogil:
    """Write the 12 bytes of a key."""
    cdef int i
    for i in range(8):
        at[i] = <uint8_t>(hi >> (56 - 8 * i))
    for i in range(4):
        at[8 + i] = <uint8_t>(lo >> (24 - 8 * i))


cdef int bytes_key(const unsigned char* data, Key* key) except -1:
    cdef uint32_t parts[9]
    cdef int i
    key.hi = 0
    key.lo = 0
    for i in range(8):
        key.hi = key.hi << 8 | data[i]
    for i in range(8, 12):
        key.lo = key.lo << 8 | data[i]
    split(key.hi, key.lo, parts)
    for i in range(9):
        if parts[i] < 1 or parts[i] > PART_MAX:
            raise CoordinateError(
                f"expected a key of nine parts from 1 to 999, found {data[:12].hex()}"
            )
    return 0


@cython.final
@cython.freelist(256)
@cython.no_gc
cdef class Coordinate:
    """A place in a phext: library.shelf.series/collection.volume.book/chapter.section.scroll.

    Immutable, hashable and ordered as scrolls are in a file. CoordinateError when a number is
    not from 1 to 999.
    """

    def __init__(
        self,
        long library,
        long shelf,
        long series,
        long collection,
        long volume,
        long book,
        long chapter,
        long section,
        long scroll,
    ):
        cdef Key key
        if self._hi:
            raise TypeError("a coordinate does not change")
        tuple_key(
            (library, shelf, series, collection, volume, book, chapter, section, scroll), &key
        )
        self._hi = key.hi
        self._lo = key.lo

    @staticmethod
    def parse(str text not None):
        """Read `1.5.2/3.7.3/9.1.1`, or the URL form with `;`; white space at the ends is ignored."""
        cdef Key key
        parse_key(text, &key)
        return make_coordinate(key.hi, key.lo)

    @staticmethod
    def parse_lenient(str text not None, *, bint clamp=False):
        """Read a coordinate as SQ does: anything but digits and separators is skipped.

        Parts that are not reached are 1; text without a digit is the origin. A part that is not
        from 1 to 999 is a CoordinateError, where SQ would damage the phext; `clamp` takes the
        nearest part instead.
        """
        cdef long parts[9]
        cdef long value = 0
        cdef int position = 0, i
        cdef Py_UCS4 character
        for i in range(9):
            parts[i] = 1
        for character in text:
            if u"0" <= character <= u"9":
                value = min(value * 10 + (<long>character - 48), 1000000)
                position = max(position, 1)
            elif character in u"./;":
                if 1 <= position <= 8:
                    parts[position - 1] = value
                    position += 1
                value = 0
        if position:
            parts[8] = value  # wherever the text ended
        if clamp:
            for i in range(9):
                parts[i] = min(max(parts[i], 1), 999)
        return Coordinate(*[parts[i] for i in range(9)])

    @staticmethod
    def from_key(bytes key not None):
        """Read the 12 bytes of `key`."""
        cdef Key found
        if PyBytes_GET_SIZE(key) != 12:
            raise CoordinateError(f"expected a key of 12 bytes, found {len(key)}")
        bytes_key(<const unsigned char*>PyBytes_AS_STRING(key), &found)
        return make_coordinate(found.hi, found.lo)

    @property
    def key(self):
        """12 bytes whose order is the order of coordinates: ten bits a part, in 8 and 4 bytes."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, 12)
        key_data(self._hi, self._lo, <uint8_t*>PyBytes_AS_STRING(data))
        return data

    @staticmethod
    def from_short_key(bytes short_key not None):
        """Read what `short_key` gives, and nothing else."""
        cdef unsigned char data[12]
        cdef Key found
        cdef Py_ssize_t count = PyBytes_GET_SIZE(short_key), i
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(short_key)
        if count > 12 or (count > 0 and at[0] == 0):
            raise CoordinateError(
                "expected a short key of at most 12 bytes, without leading zero bytes, "
                f"found {short_key[:13].hex()}"
            )
        key_data(_FIRST_HIGH, _FIRST_LOW, data)
        for i in range(count):
            data[12 - count + i] ^= at[i]
        bytes_key(data, &found)
        return make_coordinate(found.hi, found.lo)

    @property
    def short_key(self):
        """The key exclusive or that of the first coordinate, without leading zero bytes: the bytes
        in which both differ."""
        cdef unsigned char data[12]
        cdef int start = 0
        key_data(self._hi ^ _FIRST_HIGH, self._lo ^ _FIRST_LOW, data)
        while start < 12 and data[start] == 0:
            start += 1
        return PyBytes_FromStringAndSize(<char*>data + start, 12 - start)

    @property
    def parts(self):
        """The nine numbers, largest dimension first."""
        cdef uint32_t p[9]
        split(self._hi, self._lo, p)
        return (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8])

    @property
    def url(self):
        """The form with `;` between the groups."""
        return written(self._hi, self._lo, c";")

    @property
    def library(self):
        return part_of(self, 0)

    @property
    def shelf(self):
        return part_of(self, 1)

    @property
    def series(self):
        return part_of(self, 2)

    @property
    def collection(self):
        return part_of(self, 3)

    @property
    def volume(self):
        return part_of(self, 4)

    @property
    def book(self):
        return part_of(self, 5)

    @property
    def chapter(self):
        return part_of(self, 6)

    @property
    def section(self):
        return part_of(self, 7)

    @property
    def scroll(self):
        return part_of(self, 8)

    def successor(self):
        """Return the next coordinate, None for the last."""
        cdef uint32_t parts[9]
        cdef int i
        split(self._hi, self._lo, parts)
        for i in range(8, -1, -1):
            if parts[i] < PART_MAX:
                parts[i] += 1
                return make_coordinate(high(parts), low(parts))
            parts[i] = 1
        return None

    def __str__(self):
        return written(self._hi, self._lo, c"/")

    def __repr__(self):
        return f"Coordinate('{self}')"

    def __reduce__(self):
        return Coordinate, self.parts

    def __hash__(self):
        cdef uint64_t mixed = (self._hi ^ <uint64_t>self._lo << 30) * <uint64_t>0x9E3779B97F4A7C15
        return <Py_hash_t>((mixed ^ mixed >> 32) >> 1)

    def __richcmp__(self, other, int operation):
        cdef Coordinate right
        cdef bint equal, less
        if type(other) is not Coordinate:
            return NotImplemented
        right = <Coordinate>other
        equal = self._hi == right._hi and self._lo == right._lo
        if operation == Py_EQ:
            return equal
        if operation == Py_NE:
            return not equal
        less = key_less(self._hi, self._lo, right._hi, right._lo)
        if operation == Py_LT:
            return less
        if operation == Py_LE:
            return less or equal
        if operation == Py_GT:
            return not less and not equal
        return not less


ORIGIN = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)


@cython.final
cdef class CoordinateRange:
    """The coordinates from `lower`, included, to `upper`, excluded; None is no bound above."""

    def __cinit__(self, Coordinate lower=None, Coordinate upper=None):
        self.lower = ORIGIN if lower is None else lower
        self.upper = upper
        if upper is not None and not self.lower < upper:
            raise CoordinateError(f"expected an upper bound above {self.lower}, found {upper}")

    @staticmethod
    def parse(str text not None):
        """Read a coordinate, a prefix (`2.*.*/*.*.*/*.*.*`, `2.*`), `LOWER..UPPER`, or `*`.

        Stars stand at the end only; one side of `..` may be missing, UPPER is excluded.
        """
        stripped = text.strip()
        if ".." in stripped:
            lower, _, upper = stripped.partition("..")
            if not (lower.strip() or upper.strip()):  # two names of a shell that are not set
                raise CoordinateError(
                    f"expected a coordinate before or behind '..', found {text!r:.80}; "
                    "'*' is everything"
                )
            return CoordinateRange(
                Coordinate.parse(lower) if lower.strip() else None,
                Coordinate.parse(upper) if upper.strip() else None,
            )
        if stripped.endswith("*"):
            return prefix_range(text, stripped)
        return CoordinateRange.of(Coordinate.parse(stripped))

    @staticmethod
    def of(Coordinate coordinate not None):
        """Return the range of one coordinate."""
        return CoordinateRange(coordinate, coordinate.successor())

    @property
    def is_everything(self):
        """Whether every coordinate is in the range."""
        return self.upper is None and self.lower == ORIGIN

    def __contains__(self, coordinate):
        cdef Coordinate c
        if type(coordinate) is not Coordinate:
            return False
        c = <Coordinate>coordinate
        return not key_less(c._hi, c._lo, self.lower._hi, self.lower._lo) and (
            self.upper is None or key_less(c._hi, c._lo, self.upper._hi, self.upper._lo)
        )

    def intersect(self, CoordinateRange other not None):
        """Return what both ranges hold, None when that is nothing."""
        cdef Coordinate lower = self.lower if self.lower > other.lower else other.lower
        cdef Coordinate upper = self.upper
        if upper is None or (other.upper is not None and other.upper < upper):
            upper = other.upper
        if upper is not None and not lower < upper:
            return None
        return CoordinateRange(lower, upper)

    def to_keys(self):
        """Return the bounds as keys of 12 bytes; the upper one may be None."""
        return self.lower.key, None if self.upper is None else self.upper.key

    def __str__(self):
        if self.is_everything:
            return "*"
        if self.upper == self.lower.successor():
            return str(self.lower)
        for size in range(1, 9):
            prefix = ".".join(str(part) for part in self.lower.parts[:size]) + ".*"
            if CoordinateRange.parse(prefix) == self:
                return prefix
        return f"{self.lower}..{'' if self.upper is None else self.upper}"

    def __repr__(self):
        return f"CoordinateRange('{self}')"

    def __reduce__(self):
        return CoordinateRange, (self.lower, self.upper)

    def __hash__(self):
        return hash((self.lower, self.upper))

    def __eq__(self, other):
        if type(other) is not CoordinateRange:
            return NotImplemented
        return (
            self.lower == (<CoordinateRange>other).lower
            and self.upper == (<CoordinateRange>other).upper
        )


cdef CoordinateRange prefix_range(str text, str stripped):
    """Read a prefix: numbers, then stars to the end; missing parts are stars."""
    cdef list pieces = stripped.replace(";", "/").replace("/", ".").split(".")
    cdef list numbers = []
    for piece in pieces:
        if piece == "*":
            break
        numbers.append(piece)
    if len(pieces) > 9 or any(piece != "*" for piece in pieces[len(numbers):]) or not all(
        piece.isascii() and piece.isdigit() and len(piece) <= 9 for piece in numbers
    ):
        raise CoordinateError(f"expected a prefix such as 2.*.*/*.*.*/*.*.*, found {text!r:.80}")
    if not numbers:
        return CoordinateRange()
    fill = [1] * (9 - len(numbers))
    lower = Coordinate(*map(int, numbers), *fill)
    last = Coordinate(*map(int, numbers), *[PART_MAX] * len(fill))
    return CoordinateRange(lower, last.successor())


EVERYTHING = CoordinateRange()


def contains(ranges, Coordinate coordinate not None):
    """Whether one of the ranges holds the coordinate."""
    for range_ in ranges:
        if coordinate in range_:
            return True
    return False
