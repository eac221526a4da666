"""A sketch of (key, value) pairs from which the difference of two sets can be read.

Cell i holds, over the pairs that the key maps to it, the sums of v, v * x and v * y modulo
P = 2^61 - 1, where v is never 0, and x (60 bits) and y (30 bits) are the key, scrambled: keys of
one book have equal parts, and sums of those would look like a key. Every key maps to cell 0, and to cell i with probability
2 / (i + 2), by its key alone: a pair whose value changed stays one element. Sums are linear, so
the cells of two sets, subtracted, are those of their difference; in a cell with one pair, the
key is the quotient of its sums. The first cells are worth as much as their number: a sketch is
cut off where it suffices. (L. Yang, Y. Gilad, M. Alizadeh, "Practical Rateless Set
Reconciliation", SIGCOMM 2024; there items are added by exclusive or and mapped by their content.)

Beside it lie strata that tell how many pairs differ: a key belongs to stratum k with probability
2^-(k + 1) and there to one of 16 buckets, each the sum of the values modulo 256. (D. Eppstein et
al., "What's the Difference?", SIGCOMM 2011.)

The mapping is public: both sides must agree on it. Anybody who chooses keys can spoil the reading of
a difference, and values can be made to collide on purpose: what is read is only ever a hint.

C only: no module at run time.
"""

from libc.math cimport sqrt
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    CELLS = 4096
    STRATA = 10
    BUCKETS = 16
    WAITING = 256

cdef extern from *:
    """
    #define PHEXT_P ((uint64_t)0x1FFFFFFFFFFFFFFF)
    #define PHEXT_GOLDEN ((uint64_t)0x9E3779B97F4A7C15)
    """
    const uint64_t P "PHEXT_P"
    const uint64_t GOLDEN "PHEXT_GOLDEN"


cdef struct Cell:
    uint64_t value
    uint64_t x
    uint64_t y


cdef struct Change:
    uint64_t hi
    uint64_t before  # 0 stands for none
    uint64_t after
    uint32_t lo


cdef struct Sketch:
    Cell cell[CELLS]
    uint8_t bucket[STRATA * BUCKETS]
    Change waiting[WAITING]  # changes that the cells and buckets do not have yet
    Py_ssize_t waiting_count


# -- the field ---------------------------------------------------------------------------------


cdef inline uint64_t reduced(uint64_t value) noexcept nogil:
    value = (value & P) + (value >> 61)
    return value - P if value >= P else value


cdef inline uint64_t plus(uint64_t a, uint64_t b) noexcept nogil:
    a += b
    return a - P if a >= P else a


cdef inline uint64_t minus(uint64_t a, uint64_t b) noexcept nogil:
    return a - b if a >= b else a + P - b


cdef inline uint64_t times(uint64_t a, uint64_t b) noexcept nogil:
    """Multiply by halves: not every compiler has integers of 128 bits."""
    cdef uint64_t a_hi = a >> 32, a_lo = <uint32_t>a, b_hi = b >> 32, b_lo = <uint32_t>b
    cdef uint64_t middle = a_hi * b_lo + a_lo * b_hi, low = a_lo * b_lo
    # 2^61 is 1 and 2^64 is 8; the sum stays below 2^63.
    return reduced(
        8 * a_hi * b_hi + (middle >> 29) + ((middle & 0x1FFFFFFF) << 32) + (low & P) + (low >> 61)
    )


cdef inline uint64_t inverse(uint64_t a) noexcept nogil:
    """Return a^(P - 2). P - 2 has ones in bits 0 and 2 to 60 and a zero in bit 1."""
    cdef uint64_t power = a, found = a
    cdef int i
    for i in range(1, 61):
        power = times(power, power)
        if i != 1:
            found = times(found, power)
    return found


# -- the mapping -------------------------------------------------------------------------------


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = (value ^ value >> 30) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ value >> 27) * <uint64_t>0x94D049BB133111EB
    return value ^ value >> 31


cdef inline uint64_t seed_of(uint64_t hi, uint32_t lo) noexcept nogil:
    return mixed(hi ^ mixed(lo + GOLDEN))


cdef inline void scramble(uint64_t hi, uint32_t lo, uint64_t* x, uint64_t* y) noexcept nogil:
    """Turn a key into x and y, one to one, by three rounds of a Feistel cipher without a secret."""
    y[0] = (lo ^ mixed(hi)) & 0x3FFFFFFF
    x[0] = hi ^ mixed(y[0] + GOLDEN) >> 4
    y[0] = (y[0] ^ mixed(x[0] + GOLDEN)) & 0x3FFFFFFF


cdef inline void unscramble(uint64_t* x, uint64_t* y) noexcept nogil:
    """Turn x and y back into the words of a key."""
    y[0] = (y[0] ^ mixed(x[0] + GOLDEN)) & 0x3FFFFFFF
    x[0] = x[0] ^ mixed(y[0] + GOLDEN) >> 4
    y[0] = (y[0] ^ mixed(x[0])) & 0x3FFFFFFF


cdef inline uint64_t next_cell(uint64_t* state, uint64_t cell) noexcept nogil:
    """Return the next cell of a key after `cell`: SplitMix64 draws from its seed on."""
    cdef uint64_t draw
    state[0] += GOLDEN
    draw = mixed(state[0]) >> 12  # 52 bits: exact in a double, and so is the half
    return cell + 1 + <uint64_t>((<double>cell + 1.5) * (67108864.0 / sqrt(<double>draw + 0.5) - 1))


cdef inline bint maps_to(uint64_t hi, uint32_t lo, uint64_t cell) noexcept nogil:
    cdef uint64_t state = seed_of(hi, lo), at = 0
    while at < cell:
        at = next_cell(&state, at)
    return at == cell


# -- changing ----------------------------------------------------------------------------------


cdef inline uint64_t value_of(uint64_t top) noexcept nogil:
    """Return a pair's value, in [1, P): the first 61 bits of its fingerprint."""
    top >>= 3
    return top if 0 < top < P else 1


cdef inline void add_to(Cell* cell, uint64_t change, uint64_t x, uint64_t y) noexcept nogil:
    cell.value = plus(cell.value, change)
    cell.x = plus(cell.x, x)
    cell.y = plus(cell.y, y)


cdef inline void sketch_change(
    Sketch* sketch, uint64_t hi, uint32_t lo, uint64_t before, uint64_t after
) noexcept nogil:
    """Replace the value `before` of a key by `after`; 0 stands for none."""
    cdef Change* change
    if sketch.waiting_count == WAITING:
        sketch_settle(sketch)
    change = sketch.waiting + sketch.waiting_count
    change.hi = hi
    change.lo = lo
    change.before = before
    change.after = after
    sketch.waiting_count += 1


cdef inline void sketch_settle(Sketch* sketch) noexcept nogil:
    """Put the waiting changes into cells and buckets: many at once, while those are at hand."""
    cdef Py_ssize_t i
    for i in range(sketch.waiting_count):
        settle(sketch, sketch.waiting + i)
    sketch.waiting_count = 0


cdef inline void settle(Sketch* sketch, const Change* change) noexcept nogil:
    cdef uint64_t seed = seed_of(change.hi, change.lo), state = seed, at = 0, x, y
    cdef uint64_t value = minus(change.after, change.before)
    cdef int stratum = 0
    while stratum < STRATA - 1 and not (seed >> stratum) & 1:
        stratum += 1
    sketch.bucket[stratum * BUCKETS + <int>(seed >> 60)] += <uint8_t>(change.after - change.before)
    scramble(change.hi, change.lo, &x, &y)
    x = times(value, x)
    y = times(value, y)
    while at < CELLS:
        add_to(&sketch.cell[at], value, x, y)
        at = next_cell(&state, at)


# -- reading a difference ----------------------------------------------------------------------


cdef struct Pair:
    uint64_t hi
    uint32_t lo
    uint64_t value  # ours minus theirs


cdef struct Peeling:
    Cell* cell  # what is left of the difference
    uint64_t* inverse
    uint32_t* now  # cells to look at; those that changed meanwhile
    uint32_t* later
    uint8_t* is_later
    Pair* found
    Py_ssize_t count  # of cells, and room in each array
    Py_ssize_t found_count
    Py_ssize_t later_count


cdef inline bint is_parts(uint64_t packed, int count) noexcept nogil:
    """Whether `packed` is `count` parts of ten bits, each from 1 to 999."""
    cdef int i
    if packed >> (10 * count):
        return False
    for i in range(count):
        if not 1 <= (packed >> (10 * i) & 1023) <= 999:
            return False
    return True


cdef inline bint peel(Peeling* work) noexcept nogil:
    """Take pair after pair out of the cells; return whether nothing is left in them."""
    cdef Py_ssize_t i, now_count = work.count
    cdef uint32_t* now
    for i in range(work.count):
        work.now[i] = <uint32_t>i
        work.is_later[i] = False
    while now_count:
        invert_values(work, now_count)
        for i in range(now_count):
            if not try_cell(work, work.now[i], work.inverse[i]):
                return False
        now = work.now
        work.now = work.later
        work.later = now
        now_count = work.later_count
        work.later_count = 0
        for i in range(now_count):
            work.is_later[work.now[i]] = False
    for i in range(work.count):
        if work.cell[i].value | work.cell[i].x | work.cell[i].y:
            return False
    return True


cdef inline void invert_values(Peeling* work, Py_ssize_t now_count) noexcept nogil:
    """Invert the values of the cells to look at: one inversion serves all (P. Montgomery)."""
    cdef uint64_t product = 1, value
    cdef Py_ssize_t i
    for i in range(now_count):
        work.inverse[i] = product
        value = work.cell[work.now[i]].value
        if value:
            product = times(product, value)
    product = inverse(product)
    for i in range(now_count - 1, -1, -1):
        work.inverse[i] = times(work.inverse[i], product)
        value = work.cell[work.now[i]].value
        if value:
            product = times(product, value)


cdef inline bint try_cell(Peeling* work, uint32_t at, uint64_t inverted) noexcept nogil:
    """Take out the pair of a cell that has only one. Return False when there is no room for it.

    A wrong one passes with a chance of 2^-32; it leaves cells that are not empty in the end.
    """
    cdef Cell cell = work.cell[at]
    cdef uint64_t hi = times(cell.x, inverted), lo = times(cell.y, inverted)
    cdef uint64_t state, i = 0
    cdef Pair* pair = work.found + work.found_count
    if work.is_later[at] or cell.value == 0 or hi >> 60 or lo >> 30:
        return True
    unscramble(&hi, &lo)
    if not is_parts(hi, 6) or not is_parts(lo, 3) or not maps_to(hi, <uint32_t>lo, at):
        return True
    if work.found_count == work.count:
        return False
    pair.hi = hi
    pair.lo = <uint32_t>lo
    pair.value = cell.value
    work.found_count += 1
    cell.value = minus(0, cell.value)
    cell.x = minus(0, cell.x)
    cell.y = minus(0, cell.y)
    state = seed_of(hi, <uint32_t>lo)
    while i < <uint64_t>work.count:
        add_to(&work.cell[i], cell.value, cell.x, cell.y)
        if not work.is_later[i]:
            work.is_later[i] = True
            work.later[work.later_count] = <uint32_t>i
            work.later_count += 1
        i = next_cell(&state, i)
    return True
