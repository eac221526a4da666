"""XXH3 with 64 bits (Collet 2019, xxHash specification 0.2) of up to 240 bytes. C only: no module
at run time. The library `xxhash` has it for all lengths, at the price of a call."""

from libc.stdint cimport uint8_t, uint64_t

cdef extern from *:
    """
    static const unsigned char xxh3_secret[144] = {
    0xB8, 0xFE, 0x6C, 0x39, 0x23, 0xA4, 0x4B, 0xBE, 0x7C, 0x01, 0x81, 0x2C, 0xF7, 0x21, 0xAD, 0x1C,
    0xDE, 0xD4, 0x6D, 0xE9, 0x83, 0x90, 0x97, 0xDB, 0x72, 0x40, 0xA4, 0xA4, 0xB7, 0xB3, 0x67, 0x1F,
    0xCB, 0x79, 0xE6, 0x4E, 0xCC, 0xC0, 0xE5, 0x78, 0x82, 0x5A, 0xD0, 0x7D, 0xCC, 0xFF, 0x72, 0x21,
    0xB8, 0x08, 0x46, 0x74, 0xF7, 0x43, 0x24, 0x8E, 0xE0, 0x35, 0x90, 0xE6, 0x81, 0x3A, 0x26, 0x4C,
    0x3C, 0x28, 0x52, 0xBB, 0x91, 0xC3, 0x00, 0xCB, 0x88, 0xD0, 0x65, 0x8B, 0x1B, 0x53, 0x2E, 0xA3,
    0x71, 0x64, 0x48, 0x97, 0xA2, 0x0D, 0xF9, 0x4E, 0x38, 0x19, 0xEF, 0x46, 0xA9, 0xDE, 0xAC, 0xD8,
    0xA8, 0xFA, 0x76, 0x3F, 0xE3, 0x9C, 0x34, 0x3F, 0xF9, 0xDC, 0xBB, 0xC7, 0xC7, 0x0B, 0x4F, 0x1D,
    0x8A, 0x51, 0xE0, 0x4B, 0xCD, 0xB4, 0x59, 0x31, 0xC8, 0x9F, 0x7E, 0xC9, 0xD9, 0x78, 0x73, 0x64,
    0xEA, 0xC5, 0xAC, 0x83, 0x34, 0xD3, 0xEB, 0xC3, 0xC5, 0x81, 0xA0, 0xFF, 0xFA, 0x13, 0x63, 0xEB
    };
    #ifdef __SIZEOF_INT128__
    static inline unsigned long long xxh3_fold(unsigned long long a, unsigned long long b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (unsigned long long)product ^ (unsigned long long)(product >> 64);
    }
    #else
    static inline unsigned long long xxh3_fold(unsigned long long a, unsigned long long b) {
        unsigned long long low = (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
        unsigned long long left = (a >> 32) * (b & 0xFFFFFFFFu);
        unsigned long long right = (a & 0xFFFFFFFFu) * (b >> 32);
        unsigned long long cross = (low >> 32) + (left & 0xFFFFFFFFu) + right;
        unsigned long long high = (left >> 32) + (cross >> 32) + (a >> 32) * (b >> 32);
        return ((cross << 32) | (low & 0xFFFFFFFFu)) ^ high;
    }
    #endif
    """
    const uint8_t* xxh3_secret
    uint64_t xxh3_fold(uint64_t a, uint64_t b) nogil

cdef enum:
    XXH3_MIN = 17
    XXH3_MAX = 240
    LAST = 17  # so far before the end of 136 bytes of the secret the last mix of a long one begins
    LATER = 3  # bytes of the secret that the second pass of a long one leaves out


cdef inline uint64_t word_at(const uint8_t* data) noexcept nogil:
    """Read eight bytes, little-endian."""
    cdef uint64_t word = 0
    cdef int i
    for i in range(8):
        word |= <uint64_t>data[i] << (8 * i)
    return word


cdef inline uint64_t big_word_at(const uint8_t* data) noexcept nogil:
    """Read eight bytes, big-endian, as a checksum is written."""
    cdef uint64_t word = 0
    cdef int i
    for i in range(8):
        word = word << 8 | data[i]
    return word


cdef inline uint64_t mix(const uint8_t* data, int secret, uint64_t seed) noexcept nogil:
    return xxh3_fold(
        word_at(data) ^ (word_at(xxh3_secret + secret) + seed),
        word_at(data + 8) ^ (word_at(xxh3_secret + secret + 8) - seed),
    )


cdef inline uint64_t avalanche(uint64_t value) noexcept nogil:
    value = (value ^ value >> 37) * <uint64_t>0x165667919E3779F9
    return value ^ value >> 32


cdef inline uint64_t xxh3_of_8(const uint8_t* data, uint64_t seed) noexcept nogil:
    """Return the digest of eight bytes."""
    cdef uint64_t word = word_at(data), low = seed & <uint64_t>0xFFFFFFFF
    low = (low >> 24) | (low >> 8 & 0xFF00) | (low << 8 & 0xFF0000) | (low << 24 & <uint64_t>0xFF000000)
    seed ^= low << 32
    word = (word >> 32) | (word << 32)
    word ^= (word_at(xxh3_secret + 8) ^ word_at(xxh3_secret + 16)) - seed
    word ^= (word << 49 | word >> 15) ^ (word << 24 | word >> 40)
    word *= <uint64_t>0x9FB21C651E98DF25
    word ^= (word >> 35) + 8
    word *= <uint64_t>0x9FB21C651E98DF25
    return word ^ word >> 28


cdef inline uint64_t xxh3(const uint8_t* data, int count, uint64_t seed) noexcept nogil:
    """Return the digest of `XXH3_MIN` to `XXH3_MAX` bytes."""
    cdef uint64_t total = <uint64_t>count * <uint64_t>0x9E3779B185EBCA87
    cdef int i
    if count <= 128:
        for i in range((count - 1) // 32 + 1):
            total += mix(data + 16 * i, 32 * i, seed)
            total += mix(data + count - 16 * (i + 1), 32 * i + 16, seed)
        return avalanche(total)
    for i in range(8):
        total += mix(data + 16 * i, 16 * i, seed)
    total = avalanche(total)
    for i in range(8, count // 16):
        total += mix(data + 16 * i, 16 * (i - 8) + LATER, seed)
    return avalanche(total + mix(data + count - 16, 136 - LAST, seed))
