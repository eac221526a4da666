"""An open-addressing hash table: key -> (size, object), 24 bytes an entry, the object inline.

Linear probing; an entry lies between its home and the first free entry after it. Removal shifts
entries back, so there are no tombstones. At most 5/8 full; homes ascend with the hash, so growing
reads and writes in order.

The hash is multilinear (Dietzfelbinger 1996; Lemire and Kaser 2014) over secret multipliers, then
mixed: peers choose coordinates, and none can choose ones that meet without knowing the seed.

C only: no module at run time.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from cpython.ref cimport PyObject


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define phext_prefetch(address) __builtin_prefetch(address)
    #else
    #define phext_prefetch(address) ((void)(address))
    #endif
    """
    void prefetch "phext_prefetch"(const void* address) noexcept nogil


cdef struct Entry:
    uint64_t hi  # 0: free
    uint32_t lo
    uint32_t size
    PyObject* value  # owned; NULL: None


cdef struct Table:
    Entry* entries
    uint64_t room
    uint64_t count
    uint64_t secret[4]


cdef inline void seed_table(Table* table, uint64_t seed) noexcept nogil:
    """Draw the multipliers from a seed by SplitMix64 (Steele, Lea, Flood 2014)."""
    cdef uint64_t mixed
    cdef int i
    for i in range(4):
        seed += <uint64_t>0x9E3779B97F4A7C15
        mixed = (seed ^ seed >> 30) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ mixed >> 27) * <uint64_t>0x94D049BB133111EB
        table.secret[i] = (mixed ^ mixed >> 31) | 1


cdef inline uint64_t home_of(const Table* table, uint64_t hi, uint32_t lo) noexcept nogil:
    cdef uint64_t mixed = (
        table.secret[0] * <uint32_t>hi + table.secret[1] * (hi >> 32) + table.secret[2] * lo
    )
    mixed = (mixed ^ mixed >> 32) * table.secret[3]
    return (mixed >> 32) * table.room >> 32


cdef inline Entry* find(const Table* table, uint64_t hi, uint32_t lo) noexcept nogil:
    """Return the entry of a key, or the free one where it would go."""
    cdef Entry* entry = table.entries + home_of(table, hi, lo)
    cdef Entry* end = table.entries + table.room
    while entry.hi != 0 and (entry.hi != hi or entry.lo != lo):
        entry += 1
        if entry == end:
            entry = table.entries
    return entry


cdef inline int reserve(Table* table, uint64_t count) noexcept nogil:
    """Make room for `count` entries. Return -1, with nothing changed, when memory is short."""
    cdef uint64_t old_room = table.room, room = table.room, i
    cdef Entry* old = table.entries
    cdef Entry* entries
    if count * 8 <= room * 5:
        return 0
    while count * 8 > room * 5:
        room += room // 2 + 8
    if room >> 32:
        return -1
    entries = <Entry*>calloc(room, sizeof(Entry))
    if entries == NULL:
        return -1
    table.entries = entries
    table.room = room
    for i in range(old_room):
        if old[i].hi:
            find(table, old[i].hi, old[i].lo)[0] = old[i]
    free(old)
    return 0


cdef inline void erase(Table* table, Entry* hole) noexcept nogil:
    """Free an entry; those after it that it had pushed away move back."""
    cdef uint64_t at = hole - table.entries, i = at, home
    while True:
        i = i + 1 if i + 1 < table.room else 0
        if table.entries[i].hi == 0:
            break
        home = home_of(table, table.entries[i].hi, table.entries[i].lo)
        if distance(table, home, i) >= distance(table, at, i):
            table.entries[at] = table.entries[i]
            at = i
    memset(table.entries + at, 0, sizeof(Entry))
    table.count -= 1


cdef inline uint64_t distance(const Table* table, uint64_t lower, uint64_t upper) noexcept nogil:
    return upper - lower if upper >= lower else upper + table.room - lower
