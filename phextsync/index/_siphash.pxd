"""SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012). C only: no module at run time."""

from libc.stdint cimport uint8_t, uint64_t


cdef inline uint64_t rotate(uint64_t value, int count) noexcept nogil:
    return value << count | value >> (64 - count)


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[0] = rotate(v[0], 32)
    v[2] += v[3]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[2] = rotate(v[2], 32)


cdef inline uint64_t read_word(const uint8_t* data, int count) noexcept nogil:
    """Read up to eight bytes, little-endian."""
    cdef uint64_t word = 0
    cdef int i
    for i in range(count):
        word |= <uint64_t>data[i] << (8 * i)
    return word


cdef inline void siphash(
    uint64_t k0, uint64_t k1, const uint8_t* data, int count, uint64_t* out
) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef int i
    v[0] = k0 ^ <uint64_t>0x736F6D6570736575
    v[1] = k1 ^ <uint64_t>0x646F72616E646F6D ^ 0xEE
    v[2] = k0 ^ <uint64_t>0x6C7967656E657261
    v[3] = k1 ^ <uint64_t>0x7465646279746573
    for i in range(count // 8):
        word = read_word(data + 8 * i, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
    word = <uint64_t>count << 56 | read_word(data + 8 * (count // 8), count % 8)
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xEE
    for i in range(4):
        sip_round(v)
    out[0] = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    for i in range(4):
        sip_round(v)
    out[1] = v[0] ^ v[1] ^ v[2] ^ v[3]
