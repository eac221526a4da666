from libc.stdint cimport uint32_t, uint64_t

# A coordinate's key: ten bits a part, order-preserving. `hi` has the first six parts in 60 bits,
# `lo` the last three in 30.
cdef struct Key:
    uint64_t hi
    uint32_t lo


cdef inline bint key_less(uint64_t a_hi, uint32_t a_lo, uint64_t b_hi, uint32_t b_lo) noexcept nogil:
    return a_hi < b_hi or (a_hi == b_hi and a_lo < b_lo)


cdef class Coordinate:
    cdef readonly uint64_t _hi
    cdef readonly uint32_t _lo


cdef Coordinate make_coordinate(uint64_t hi, uint32_t lo)
cdef bint try_key(str text, Key* key) noexcept
cdef int parse_key(str text, Key* key) except -1
cdef int tuple_key(tuple parts, Key* key) except -1
cdef int bytes_key(const unsigned char* data, Key* key) except -1


cdef class CoordinateRange:
    cdef readonly Coordinate lower
    cdef readonly Coordinate upper
