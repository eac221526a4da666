"""Sums of fingerprints modulo 2^256, and bytes of keys and sums. C only: no module at run time."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    DIGEST = 32
    KEY = 12


cdef struct Sum:
    uint64_t limb[4]  # least significant first


cdef inline void add(Sum* total, const Sum* term) noexcept nogil:
    cdef uint64_t carry = 0, before, limb
    cdef int i
    for i in range(4):
        before = total.limb[i]
        limb = before + term.limb[i]
        total.limb[i] = limb + carry
        carry = (limb < before) | (total.limb[i] < limb)


cdef inline void subtract(Sum* total, const Sum* term) noexcept nogil:
    cdef uint64_t borrow = 0, before, limb
    cdef int i
    for i in range(4):
        before = total.limb[i]
        limb = before - term.limb[i]
        total.limb[i] = limb - borrow
        borrow = (before < term.limb[i]) | (limb < borrow)


cdef inline Sum added_up(const Sum* terms, Py_ssize_t count) noexcept nogil:
    """Add `count` terms. Carries are counted per limb, so that no addition waits for another."""
    cdef uint64_t a = 0, b = 0, c = 0, d = 0
    cdef uint64_t over_a = 0, over_b = 0, over_c = 0
    cdef Sum total, carries
    cdef Py_ssize_t i
    for i in range(count):
        a += terms[i].limb[0]
        over_a += a < terms[i].limb[0]
        b += terms[i].limb[1]
        over_b += b < terms[i].limb[1]
        c += terms[i].limb[2]
        over_c += c < terms[i].limb[2]
        d += terms[i].limb[3]
    total.limb[0] = a
    total.limb[1] = b
    total.limb[2] = c
    total.limb[3] = d
    carries.limb[0] = 0
    carries.limb[1] = over_a
    carries.limb[2] = over_b
    carries.limb[3] = over_c
    add(&total, &carries)
    return total


cdef inline void add_first(
    Sum* total, const Sum* terms, Py_ssize_t first, Py_ssize_t count, const Sum* whole
) noexcept nogil:
    """Add the first of `count` terms to `total`; `whole` is their sum, so half of them suffice."""
    cdef Sum part
    if 2 * first <= count:
        part = added_up(terms, first)
        add(total, &part)
    else:
        part = added_up(terms + first, count - first)
        add(total, whole)
        subtract(total, &part)


cdef extern from *:
    """
    static CYTHON_INLINE uint64_t phext_read_u64(const unsigned char *p) {
        return (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40
            | (uint64_t)p[3] << 32 | (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16
            | (uint64_t)p[6] << 8 | (uint64_t)p[7];
    }
    static CYTHON_INLINE void phext_write_u64(uint64_t v, unsigned char *p) {
        p[0] = (unsigned char)(v >> 56); p[1] = (unsigned char)(v >> 48);
        p[2] = (unsigned char)(v >> 40); p[3] = (unsigned char)(v >> 32);
        p[4] = (unsigned char)(v >> 24); p[5] = (unsigned char)(v >> 16);
        p[6] = (unsigned char)(v >> 8); p[7] = (unsigned char)v;
    }
    static CYTHON_INLINE uint32_t phext_read_u32(const unsigned char *p) {
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
    }
    static CYTHON_INLINE void phext_write_u32(uint32_t v, unsigned char *p) {
        p[0] = (unsigned char)(v >> 24); p[1] = (unsigned char)(v >> 16);
        p[2] = (unsigned char)(v >> 8); p[3] = (unsigned char)v;
    }
    """
    # Big-endian, written out: compilers make one byte swap of each.
    uint64_t read_u64 "phext_read_u64"(const uint8_t* data) noexcept nogil
    uint32_t read_u32 "phext_read_u32"(const uint8_t* data) noexcept nogil
    void write_u64 "phext_write_u64"(uint64_t value, uint8_t* data) noexcept nogil
    void write_u32 "phext_write_u32"(uint32_t value, uint8_t* data) noexcept nogil


cdef inline void load_sum(Sum* found, const uint8_t* data) noexcept nogil:
    """Read 32 bytes, big-endian."""
    cdef int i
    for i in range(4):
        found.limb[i] = read_u64(data + 8 * (3 - i))


cdef inline void store_sum(const Sum* found, uint8_t* data) noexcept nogil:
    cdef int i
    for i in range(4):
        write_u64(found.limb[i], data + 8 * (3 - i))


cdef inline void store_key(uint64_t hi, uint32_t lo, uint8_t* data) noexcept nogil:
    write_u64(hi, data)
    write_u32(lo, data + 8)
