"""The nine parts of a key side by side: distances, and boxes around keys.

Each part has a lane of 20 bits, three lanes to a word, so that all are compared in a few steps and
without branches. The distance of two keys is the sum of what their parts differ by (Manhattan).

C only: no module at run time.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #define PHEXT_LANES(bits) ((uint64_t)(bits) << 40 | (uint64_t)(bits) << 20 | (uint64_t)(bits))
    """
    const uint64_t PART "((uint64_t)1023)"
    const uint64_t LANES "PHEXT_LANES(1023)"
    const uint64_t BORROWS "PHEXT_LANES(1024)"


cdef struct Parts:
    uint64_t odd  # parts 1, 3 and 5
    uint64_t even  # parts 2, 4 and 6
    uint64_t last  # parts 8, 7 and 9


cdef struct Box:
    uint64_t low_hi  # the least of each part; 0: the box is not known
    uint64_t high_hi  # the greatest of each part; 0: there is nothing in it
    uint32_t low_lo
    uint32_t high_lo


cdef inline Parts spread(uint64_t hi, uint32_t lo) noexcept nogil:
    cdef Parts parts
    parts.odd = hi >> 10 & LANES
    parts.even = hi & LANES
    parts.last = (<uint64_t>lo & LANES) | (<uint64_t>lo >> 10 & PART) << 40
    return parts


cdef inline uint64_t excess(uint64_t a, uint64_t b) noexcept nogil:
    """Return in each lane by how much a exceeds b, 0 where it does not."""
    cdef uint64_t difference = (a | BORROWS) - b, kept = difference & BORROWS
    return difference & (kept - (kept >> 10))


cdef inline uint32_t outside(Parts key, Parts low, Parts high) noexcept nogil:
    """Return how far a key is from the nearest place between `low` and `high`: of a box, the least
    distance to what is in it; of one other key, which is both, the distance."""
    cdef uint64_t total = (
        excess(low.odd, key.odd) + excess(key.odd, high.odd)
        + excess(low.even, key.even) + excess(key.even, high.even)
        + excess(low.last, key.last) + excess(key.last, high.last)
    )
    return <uint32_t>((total + (total >> 20) + (total >> 40)) & 0xFFFFF)


cdef inline void widen(Parts* low, Parts* high, Parts least, Parts greatest) noexcept nogil:
    """Have the box from `low` to `high` hold what lies from `least` to `greatest` too."""
    low.odd -= excess(low.odd, least.odd)
    low.even -= excess(low.even, least.even)
    low.last -= excess(low.last, least.last)
    high.odd += excess(greatest.odd, high.odd)
    high.even += excess(greatest.even, high.even)
    high.last += excess(greatest.last, high.last)


cdef inline uint64_t high_word(Parts parts) noexcept nogil:
    return parts.odd << 10 | parts.even


cdef inline uint32_t low_word(Parts parts) noexcept nogil:
    return <uint32_t>((parts.last & 0x3FFFFFFF) | parts.last >> 40 << 10)
