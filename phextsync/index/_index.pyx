# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""CoordinateIndex: coordinate -> (object or None, fingerprint, size), hashed and in order.

Two structures share the entries:

* an open-addressing hash table with the object inline, for point look-ups (linear probing,
  removal by shifting back, load at most 0.7, seeded: peers choose coordinates);
* a list of leaves in ascending order, each with up to `LEAF` sorted entries and, beside it, its
  first key, count and sum of fingerprints modulo 2^256, for order, ranks and range fingerprints.

Invariants, checked by `_check`: leaves are never empty unless the index is; keys ascend strictly
within a leaf and from leaf to leaf; counts and sums are those of the entries; every entry is in
both structures with one size.

One thread. Objects must not refer back to the index: Python's collector does not look inside.
"""

import os

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

from phextsync.index._coordinate cimport (
    Coordinate,
    CoordinateRange,
    Key,
    bytes_key,
    key_less,
    make_coordinate,
    parse_key,
    tuple_key,
)

from phextsync.errors import CoordinateError
from phextsync.index import _coordinate

cdef CoordinateRange _everything = _coordinate.EVERYTHING

cdef enum:
    LEAF = 256
    DIGEST = 32
    KEY = 12


cdef struct Sum:
    uint64_t limb[4]  # least significant first


cdef struct Leaf:
    uint64_t hi[LEAF]
    uint32_t lo[LEAF]
    uint32_t size[LEAF]
    Sum fingerprint[LEAF]


cdef struct Entry:
    uint64_t hi  # 0: free
    uint32_t lo
    uint32_t size
    PyObject* value  # NULL: None


cdef struct Place:
    Py_ssize_t leaf
    Py_ssize_t slot


# -- sums --------------------------------------------------------------------------------------


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


cdef inline void load(Sum* found, const uint8_t* data) noexcept nogil:
    """Read 32 bytes, big-endian."""
    cdef int i, j
    cdef uint64_t limb
    for i in range(4):
        limb = 0
        for j in range(8):
            limb = limb << 8 | data[8 * (3 - i) + j]
        found.limb[i] = limb


cdef inline void store(const Sum* found, uint8_t* data) noexcept nogil:
    cdef int i, j
    for i in range(4):
        for j in range(8):
            data[8 * (3 - i) + j] = <uint8_t>(found.limb[i] >> (56 - 8 * j))


cdef bytes sum_bytes(const Sum* found):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, DIGEST)
    store(found, <uint8_t*>PyBytes_AS_STRING(data))
    return data


cdef inline void store_key(uint64_t hi, uint32_t lo, uint8_t* data) noexcept nogil:
    cdef int i
    for i in range(8):
        data[i] = <uint8_t>(hi >> (56 - 8 * i))
    for i in range(4):
        data[8 + i] = <uint8_t>(lo >> (24 - 8 * i))


# -- SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012) ----------------------------


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
    cdef uint64_t word = 0
    cdef int i
    for i in range(count):
        word |= <uint64_t>data[i] << (8 * i)
    return word


cdef void siphash(
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


# -- the index ---------------------------------------------------------------------------------


cdef class CoordinateIndex:
    """An ordered map of coordinates to (object or None, fingerprint, size).

    Coordinates are given as `Coordinate`, as text, or as a tuple of nine numbers. A fingerprint
    has 32 bytes; a size is that of a scroll's text, 0 for a scroll that only has history.
    """

    cdef Entry* _table
    cdef uint64_t _mask
    cdef uint64_t _seed
    cdef Py_ssize_t _count
    cdef Leaf** _leaves
    cdef Key* _first
    cdef uint32_t* _counts
    cdef Sum* _sums
    cdef Py_ssize_t _leaf_count
    cdef Py_ssize_t _leaf_room
    cdef Py_ssize_t _leaf_max
    cdef uint64_t _changes
    cdef readonly Py_ssize_t filled
    cdef readonly uint64_t text_bytes

    def __cinit__(self, *, Py_ssize_t leaf_max=LEAF, seed=None):
        if not 2 <= leaf_max <= LEAF:
            raise ValueError(f"expected a leaf of 2 to {LEAF} entries, found {leaf_max}")
        self._leaf_max = leaf_max
        self._seed = int.from_bytes(os.urandom(8), "big") if seed is None else seed
        self._mask = 7
        self._table = <Entry*>calloc(8, sizeof(Entry))
        if self._table == NULL:
            raise MemoryError

    def __dealloc__(self):
        self._release()
        free(self._table)
        free(self._leaves)
        free(self._first)
        free(self._counts)
        free(self._sums)

    cdef void _release(self) noexcept:
        """Give back all values and leaves."""
        cdef uint64_t i
        cdef Py_ssize_t j
        if self._table != NULL:
            for i in range(self._mask + 1):
                if self._table[i].hi and self._table[i].value != NULL:
                    Py_DECREF(<object>self._table[i].value)
                    self._table[i].value = NULL
        for j in range(self._leaf_count):
            free(self._leaves[j])
        self._leaf_count = 0

    # -- keys ----------------------------------------------------------------------------------

    cdef inline int _key(self, object coordinate, Key* key) except -1:
        if type(coordinate) is Coordinate:
            key.hi = (<Coordinate>coordinate)._hi
            key.lo = (<Coordinate>coordinate)._lo
            return 0
        if type(coordinate) is str:
            return parse_key(<str>coordinate, key)
        if type(coordinate) is tuple:
            return tuple_key(<tuple>coordinate, key)
        raise CoordinateError(f"expected a coordinate, found {type(coordinate).__name__}")

    # -- the hash table ------------------------------------------------------------------------

    cdef inline uint64_t _home(self, uint64_t hi, uint32_t lo) noexcept nogil:
        cdef uint64_t mixed = (hi ^ self._seed) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 29
        mixed = (mixed + lo) * <uint64_t>0xBF58476D1CE4E5B9
        return (mixed ^ mixed >> 32) & self._mask

    cdef inline Entry* _find(self, uint64_t hi, uint32_t lo) noexcept nogil:
        """Return the entry of a key, or the free one where it would go."""
        cdef uint64_t i = self._home(hi, lo)
        cdef Entry* entry
        while True:
            entry = &self._table[i]
            if entry.hi == 0 or (entry.hi == hi and entry.lo == lo):
                return entry
            i = (i + 1) & self._mask

    cdef int _reserve(self, Py_ssize_t count) except -1:
        """Make room in the table for `count` entries."""
        cdef uint64_t room = self._mask + 1, i
        cdef uint64_t old_room = room
        cdef Entry* old = self._table
        cdef Entry* grown
        while <uint64_t>count * 10 > room * 7:
            room *= 2
        if room == old_room:
            return 0
        grown = <Entry*>calloc(room, sizeof(Entry))
        if grown == NULL:
            raise MemoryError
        self._table = grown
        self._mask = room - 1
        for i in range(old_room):
            if old[i].hi:
                self._find(old[i].hi, old[i].lo)[0] = old[i]
        free(old)
        return 0

    cdef void _erase(self, Entry* entry) noexcept:
        """Free an entry; those behind it that it had pushed away move back."""
        cdef uint64_t hole = entry - self._table, i, home
        i = hole
        while True:
            i = (i + 1) & self._mask
            if self._table[i].hi == 0:
                break
            home = self._home(self._table[i].hi, self._table[i].lo)
            if ((i - home) & self._mask) >= ((i - hole) & self._mask):
                self._table[hole] = self._table[i]
                hole = i
        memset(&self._table[hole], 0, sizeof(Entry))

    # -- leaves --------------------------------------------------------------------------------

    cdef Place _seek(self, uint64_t hi, uint32_t lo) noexcept nogil:
        """Return the place of the least key not below (hi, lo); behind the last leaf if none is."""
        cdef Py_ssize_t low = 0, high = self._leaf_count, middle
        cdef Place place
        cdef Leaf* leaf
        while low < high:  # the last leaf whose first key is not above
            middle = (low + high) // 2
            if key_less(hi, lo, self._first[middle].hi, self._first[middle].lo):
                high = middle
            else:
                low = middle + 1
        place.leaf = low - 1 if low else 0
        place.slot = 0
        if self._leaf_count == 0:
            return place
        leaf = self._leaves[place.leaf]
        low = 0
        high = self._counts[place.leaf]
        while low < high:
            middle = (low + high) // 2
            if key_less(leaf.hi[middle], leaf.lo[middle], hi, lo):
                low = middle + 1
            else:
                high = middle
        place.slot = low
        if low == <Py_ssize_t>self._counts[place.leaf]:
            place.leaf += 1
            place.slot = 0
        return place

    cdef inline bint _is_at(self, Place place, uint64_t hi, uint32_t lo) noexcept nogil:
        return (
            place.leaf < self._leaf_count
            and self._leaves[place.leaf].hi[place.slot] == hi
            and self._leaves[place.leaf].lo[place.slot] == lo
        )

    cdef int _insert_leaf(self, Py_ssize_t at) except -1:
        """Put an empty leaf at place `at` of the list."""
        cdef Py_ssize_t room, behind = self._leaf_count - at
        cdef Leaf* leaf
        cdef void* grown
        if self._leaf_count == self._leaf_room:
            room = 2 * self._leaf_room + 8
            grown = realloc(self._leaves, room * sizeof(Leaf*))
            if grown == NULL:
                raise MemoryError
            self._leaves = <Leaf**>grown
            grown = realloc(self._first, room * sizeof(Key))
            if grown == NULL:
                raise MemoryError
            self._first = <Key*>grown
            grown = realloc(self._counts, room * sizeof(uint32_t))
            if grown == NULL:
                raise MemoryError
            self._counts = <uint32_t*>grown
            grown = realloc(self._sums, room * sizeof(Sum))
            if grown == NULL:
                raise MemoryError
            self._sums = <Sum*>grown
            self._leaf_room = room
        leaf = <Leaf*>malloc(sizeof(Leaf))
        if leaf == NULL:
            raise MemoryError
        memmove(&self._leaves[at + 1], &self._leaves[at], behind * sizeof(Leaf*))
        memmove(&self._first[at + 1], &self._first[at], behind * sizeof(Key))
        memmove(&self._counts[at + 1], &self._counts[at], behind * sizeof(uint32_t))
        memmove(&self._sums[at + 1], &self._sums[at], behind * sizeof(Sum))
        self._leaves[at] = leaf
        self._counts[at] = 0
        memset(&self._sums[at], 0, sizeof(Sum))
        self._leaf_count += 1
        return 0

    cdef void _drop_leaf(self, Py_ssize_t at) noexcept:
        cdef Py_ssize_t behind = self._leaf_count - at - 1
        free(self._leaves[at])
        memmove(&self._leaves[at], &self._leaves[at + 1], behind * sizeof(Leaf*))
        memmove(&self._first[at], &self._first[at + 1], behind * sizeof(Key))
        memmove(&self._counts[at], &self._counts[at + 1], behind * sizeof(uint32_t))
        memmove(&self._sums[at], &self._sums[at + 1], behind * sizeof(Sum))
        self._leaf_count -= 1

    cdef void _move(self, Leaf* to, Py_ssize_t at, Leaf* source, Py_ssize_t slot,
                    Py_ssize_t count) noexcept:
        memmove(&to.hi[at], &source.hi[slot], count * sizeof(uint64_t))
        memmove(&to.lo[at], &source.lo[slot], count * sizeof(uint32_t))
        memmove(&to.size[at], &source.size[slot], count * sizeof(uint32_t))
        memmove(&to.fingerprint[at], &source.fingerprint[slot], count * sizeof(Sum))

    cdef void _resum(self, Py_ssize_t at) noexcept:
        """Compute first key and sum of a leaf from its entries."""
        cdef Leaf* leaf = self._leaves[at]
        cdef Py_ssize_t i
        self._first[at].hi = leaf.hi[0]
        self._first[at].lo = leaf.lo[0]
        memset(&self._sums[at], 0, sizeof(Sum))
        for i in range(<Py_ssize_t>self._counts[at]):
            add(&self._sums[at], &leaf.fingerprint[i])

    cdef int _insert(self, uint64_t hi, uint32_t lo, uint32_t size, const Sum* mark) except -1:
        """Put a key that is not there into its leaf; a full leaf is split first."""
        cdef Place place = self._seek(hi, lo)
        cdef Py_ssize_t half
        cdef Leaf* leaf
        if self._leaf_count == 0:
            self._insert_leaf(0)
        elif place.leaf == self._leaf_count or (place.slot == 0 and place.leaf > 0):
            # Before a leaf is behind the one before it: appending fills leaves.
            place.leaf -= 1
            place.slot = self._counts[place.leaf]
        if <Py_ssize_t>self._counts[place.leaf] == self._leaf_max:
            self._insert_leaf(place.leaf + 1)
            # Ascending keys leave full leaves behind them.
            if place.leaf + 2 == self._leaf_count and place.slot == self._leaf_max:
                half = self._leaf_max
            else:
                half = self._leaf_max // 2
            self._move(
                self._leaves[place.leaf + 1], 0, self._leaves[place.leaf], half,
                self._leaf_max - half,
            )
            self._counts[place.leaf + 1] = <uint32_t>(self._leaf_max - half)
            self._counts[place.leaf] = <uint32_t>half
            self._resum(place.leaf)
            if half < self._leaf_max:
                self._resum(place.leaf + 1)
            if place.slot > half or half == self._leaf_max:
                place.slot -= half
                place.leaf += 1
        leaf = self._leaves[place.leaf]
        self._move(
            leaf, place.slot + 1, leaf, place.slot, self._counts[place.leaf] - place.slot
        )
        leaf.hi[place.slot] = hi
        leaf.lo[place.slot] = lo
        leaf.size[place.slot] = size
        leaf.fingerprint[place.slot] = mark[0]
        self._counts[place.leaf] += 1
        add(&self._sums[place.leaf], mark)
        self._first[place.leaf].hi = leaf.hi[0]
        self._first[place.leaf].lo = leaf.lo[0]
        return 0

    # -- changing ------------------------------------------------------------------------------

    cdef int _set(self, uint64_t hi, uint32_t lo, const uint8_t* fingerprint, uint32_t size
                  ) except -1:
        cdef Entry* entry = self._find(hi, lo)
        cdef Place place
        cdef Sum mark
        load(&mark, fingerprint)
        if entry.hi:
            place = self._seek(hi, lo)
            subtract(&self._sums[place.leaf], &self._leaves[place.leaf].fingerprint[place.slot])
            add(&self._sums[place.leaf], &mark)
            self._leaves[place.leaf].fingerprint[place.slot] = mark
            self._leaves[place.leaf].size[place.slot] = size
            self.filled -= entry.size > 0
            self.text_bytes -= entry.size
        else:
            self._reserve(self._count + 1)
            self._insert(hi, lo, size, &mark)
            entry = self._find(hi, lo)
            entry.hi = hi
            entry.lo = lo
            self._count += 1
            self._changes += 1
        entry.size = size
        self.filled += size > 0
        self.text_bytes += size
        return 0

    cdef void _set_value(self, Entry* entry, object value) noexcept:
        cdef PyObject* old = entry.value
        if value is None:
            entry.value = NULL
        else:
            Py_INCREF(value)
            entry.value = <PyObject*>value
        if old != NULL:
            Py_DECREF(<object>old)

    def set(self, coordinate, bytes fingerprint not None, uint32_t size, *value):
        """Insert or update an entry; its object stays unless one (or None) is given. O(log n)."""
        cdef Key key
        self._key(coordinate, &key)
        if PyBytes_GET_SIZE(fingerprint) != DIGEST:
            raise ValueError(f"expected a fingerprint of 32 bytes, found {len(fingerprint)}")
        if len(value) > 1:
            raise TypeError(f"expected at most one value, found {len(value)}")
        self._set(key.hi, key.lo, <const uint8_t*>PyBytes_AS_STRING(fingerprint), size)
        if value:
            self._set_value(self._find(key.hi, key.lo), value[0])

    def set_value(self, coordinate, value):
        """Attach an object to an entry, None detaches. KeyError when there is no entry."""
        cdef Key key
        cdef Entry* entry
        self._key(coordinate, &key)
        entry = self._find(key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        self._set_value(entry, value)

    def remove(self, coordinate):
        """Remove an entry. KeyError when there is none. O(log n)."""
        cdef Key key
        cdef Entry* entry
        cdef Place place
        cdef Leaf* leaf
        self._key(coordinate, &key)
        entry = self._find(key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        self.filled -= entry.size > 0
        self.text_bytes -= entry.size
        self._set_value(entry, None)
        self._erase(entry)
        place = self._seek(key.hi, key.lo)
        leaf = self._leaves[place.leaf]
        subtract(&self._sums[place.leaf], &leaf.fingerprint[place.slot])
        self._counts[place.leaf] -= 1
        self._move(
            leaf, place.slot, leaf, place.slot + 1, self._counts[place.leaf] - place.slot
        )
        self._first[place.leaf].hi = leaf.hi[0]
        self._first[place.leaf].lo = leaf.lo[0]
        self._count -= 1
        self._changes += 1
        if self._counts[place.leaf] == 0:
            self._drop_leaf(place.leaf)
        else:
            self._join(place.leaf - 1)
            self._join(place.leaf)

    cdef void _join(self, Py_ssize_t at) noexcept:
        """Make one leaf of two neighbours that together fill at most half of one."""
        cdef Py_ssize_t left, right
        if at < 0 or at + 1 >= self._leaf_count:
            return
        left = self._counts[at]
        right = self._counts[at + 1]
        if left + right <= self._leaf_max // 2:
            self._move(self._leaves[at], left, self._leaves[at + 1], 0, right)
            self._counts[at] = <uint32_t>(left + right)
            add(&self._sums[at], &self._sums[at + 1])
            self._drop_leaf(at + 1)

    def clear(self):
        """Remove everything."""
        self._release()
        memset(self._table, 0, (self._mask + 1) * sizeof(Entry))
        self._count = 0
        self.filled = 0
        self.text_bytes = 0
        self._changes += 1

    def bulk_load(self, bytes keys not None, bytes fingerprints not None, bytes sizes not None):
        """Replace everything: n keys of 12 bytes, fingerprints of 32, sizes of 4 (native order).

        Keys may come in any order; ascending ones are fastest. ValueError when lengths differ or
        a key comes twice, CoordinateError when one is none; then the index is empty.
        """
        self.clear()
        try:
            self.set_many(keys, fingerprints, sizes)
            if self._count != PyBytes_GET_SIZE(keys) // KEY:
                raise ValueError("expected every key once, found one twice")
        except BaseException:
            self.clear()
            raise

    def set_many(self, bytes keys not None, bytes fingerprints not None, bytes sizes not None):
        """Insert or update n entries, given as `bulk_load` takes them. Objects stay."""
        cdef Py_ssize_t count = PyBytes_GET_SIZE(keys) // KEY, i
        cdef const uint8_t* key_at = <const uint8_t*>PyBytes_AS_STRING(keys)
        cdef const uint8_t* mark_at = <const uint8_t*>PyBytes_AS_STRING(fingerprints)
        cdef const uint8_t* size_at = <const uint8_t*>PyBytes_AS_STRING(sizes)
        cdef uint32_t size
        cdef Key key
        if (
            PyBytes_GET_SIZE(keys) != count * KEY
            or PyBytes_GET_SIZE(fingerprints) != count * DIGEST
            or PyBytes_GET_SIZE(sizes) != count * 4
        ):
            raise ValueError(
                f"expected as many keys of 12 bytes as fingerprints of 32 and sizes of 4, "
                f"found {len(keys)}, {len(fingerprints)} and {len(sizes)} bytes"
            )
        self._reserve(self._count + count)
        for i in range(count):
            bytes_key(key_at + i * KEY, &key)
            memcpy(&size, size_at + 4 * i, 4)
            self._set(key.hi, key.lo, mark_at + i * DIGEST, size)

    # -- points --------------------------------------------------------------------------------

    def __len__(self):
        return self._count

    def __contains__(self, coordinate):
        cdef Key key
        self._key(coordinate, &key)
        return self._find(key.hi, key.lo).hi != 0

    def __getitem__(self, coordinate):
        cdef Key key
        cdef Entry* entry
        self._key(coordinate, &key)
        entry = self._find(key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        return None if entry.value == NULL else <object>entry.value

    def get(self, coordinate, default=None):
        """Return the object of an entry, `default` when there is neither entry nor object."""
        cdef Key key
        cdef Entry* entry
        self._key(coordinate, &key)
        entry = self._find(key.hi, key.lo)
        return default if entry.value == NULL else <object>entry.value

    def size_of(self, coordinate):
        """Return the size of an entry, 0 when there is none."""
        cdef Key key
        self._key(coordinate, &key)
        return self._find(key.hi, key.lo).size

    def fingerprint_of(self, coordinate):
        """Return the 32 bytes of an entry's fingerprint, None when there is no entry."""
        cdef Key key
        cdef Place place
        self._key(coordinate, &key)
        place = self._seek(key.hi, key.lo)
        if not self._is_at(place, key.hi, key.lo):
            return None
        return sum_bytes(&self._leaves[place.leaf].fingerprint[place.slot])

    def lookup_many(self, bytes keys not None):
        """Return the sizes of n keys of 12 bytes as uint32 in native order, 2**32 - 1 for none."""
        cdef Py_ssize_t count = PyBytes_GET_SIZE(keys) // KEY, i
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(keys)
        cdef bytes found = PyBytes_FromStringAndSize(NULL, 4 * count)
        cdef uint32_t* sizes = <uint32_t*>PyBytes_AS_STRING(found)
        cdef Key key
        cdef Entry* entry
        if PyBytes_GET_SIZE(keys) != count * KEY:
            raise ValueError(f"expected keys of 12 bytes, found {len(keys)} bytes")
        for i in range(count):
            bytes_key(at + i * KEY, &key)
            entry = self._find(key.hi, key.lo)
            sizes[i] = entry.size if entry.hi else 0xFFFFFFFF
        return found

    # -- order ---------------------------------------------------------------------------------

    cdef Place _lower(self, CoordinateRange range_) noexcept:
        return self._seek(range_.lower._hi, range_.lower._lo)

    cdef Place _upper(self, CoordinateRange range_) noexcept:
        cdef Place place
        if range_.upper is None:
            place.leaf = self._leaf_count
            place.slot = 0
            return place
        return self._seek(range_.upper._hi, range_.upper._lo)

    cdef Py_ssize_t _rank(self, Place place) noexcept nogil:
        cdef Py_ssize_t i, total = place.slot
        for i in range(place.leaf):
            total += self._counts[i]
        return total

    def rank(self, Coordinate coordinate not None):
        """Return how many entries lie below `coordinate`."""
        return self._rank(self._seek(coordinate._hi, coordinate._lo))

    def select(self, Py_ssize_t position):
        """Return the coordinate at `position`, counted from 0. IndexError when there is none."""
        cdef Py_ssize_t leaf = 0, left = position
        if not 0 <= position < self._count:
            raise IndexError(f"expected a position below {self._count}, found {position}")
        while left >= <Py_ssize_t>self._counts[leaf]:
            left -= self._counts[leaf]
            leaf += 1
        return make_coordinate(self._leaves[leaf].hi[left], self._leaves[leaf].lo[left])

    def lower_bound(self, Coordinate coordinate not None):
        """Return the least stored coordinate not below `coordinate`, or None."""
        cdef Place place = self._seek(coordinate._hi, coordinate._lo)
        if place.leaf == self._leaf_count:
            return None
        return make_coordinate(
            self._leaves[place.leaf].hi[place.slot], self._leaves[place.leaf].lo[place.slot]
        )

    def count(self, CoordinateRange range_ not None=_everything):
        """Return the number of entries in a range."""
        return self._rank(self._upper(range_)) - self._rank(self._lower(range_))

    def fingerprint(self, CoordinateRange range_ not None=_everything):
        """Return (count, sum of fingerprints modulo 2^256 as 32 bytes) of a range."""
        cdef Place at = self._lower(range_)
        cdef Place end = self._upper(range_)
        cdef Sum total
        cdef Py_ssize_t count = 0, stop, i
        memset(&total, 0, sizeof(Sum))
        while at.leaf < end.leaf or (at.leaf == end.leaf and at.slot < end.slot):
            stop = end.slot if at.leaf == end.leaf else <Py_ssize_t>self._counts[at.leaf]
            count += stop - at.slot
            if at.slot == 0 and stop == <Py_ssize_t>self._counts[at.leaf]:
                add(&total, &self._sums[at.leaf])
            else:
                for i in range(at.slot, stop):
                    add(&total, &self._leaves[at.leaf].fingerprint[i])
            at.leaf += 1
            at.slot = 0
        return count, sum_bytes(&total)

    def coordinates(
        self, CoordinateRange range_ not None=_everything, *, bint filled=False,
        bint reverse=False
    ):
        """Iterate over the coordinates in a range; `filled` leaves out those of size 0.

        RuntimeError when entries come or go meanwhile.
        """
        return _Iterator.of(self, range_, filled, reverse)

    def __iter__(self):
        return self.coordinates()

    def entries(self, CoordinateRange range_ not None=_everything, limit=None):
        """Return up to `limit` (coordinate, fingerprint, size) in a range, in order."""
        cdef Place at = self._lower(range_)
        cdef Place end = self._upper(range_)
        cdef Py_ssize_t left = self._count if limit is None else limit
        cdef list found = []
        cdef Leaf* leaf
        while left > 0 and (at.leaf < end.leaf or (at.leaf == end.leaf and at.slot < end.slot)):
            leaf = self._leaves[at.leaf]
            found.append((
                make_coordinate(leaf.hi[at.slot], leaf.lo[at.slot]),
                sum_bytes(&leaf.fingerprint[at.slot]),
                leaf.size[at.slot],
            ))
            left -= 1
            at.slot += 1
            if at.slot == <Py_ssize_t>self._counts[at.leaf]:
                at.leaf += 1
                at.slot = 0
        return found

    def keys_packed(self, CoordinateRange range_ not None=_everything):
        """Return the keys in a range, 12 bytes each, in order."""
        return self.entries_packed(range_, 0)

    def entries_packed(
        self, CoordinateRange range_ not None=_everything, Py_ssize_t digest_bytes=8
    ):
        """Return for each entry in a range its key and the first bytes of its fingerprint."""
        cdef Place at = self._lower(range_)
        cdef Place end = self._upper(range_)
        cdef Py_ssize_t count = self._rank(end) - self._rank(at)
        cdef bytes packed
        cdef uint8_t* out
        cdef uint8_t mark[DIGEST]
        cdef Leaf* leaf
        if not 0 <= digest_bytes <= DIGEST:
            raise ValueError(f"expected 0 to 32 bytes of a fingerprint, found {digest_bytes}")
        packed = PyBytes_FromStringAndSize(NULL, count * (KEY + digest_bytes))
        out = <uint8_t*>PyBytes_AS_STRING(packed)
        while count > 0:
            leaf = self._leaves[at.leaf]
            store_key(leaf.hi[at.slot], leaf.lo[at.slot], out)
            store(&leaf.fingerprint[at.slot], mark)
            memcpy(out + KEY, mark, digest_bytes)
            out += KEY + digest_bytes
            count -= 1
            at.slot += 1
            if at.slot == <Py_ssize_t>self._counts[at.leaf]:
                at.leaf += 1
                at.slot = 0
        return packed

    def audit(self, CoordinateRange range_ not None, bytes key not None):
        """Return the sum modulo 2^128 of SipHash-2-4-128 under `key` (16 bytes) over the range.

        Hashed are an entry's key and its fingerprint. 16 bytes, big-endian. O(entries).
        """
        cdef Place at = self._lower(range_)
        cdef Place end = self._upper(range_)
        cdef const uint8_t* secret
        cdef uint64_t k0, k1, low = 0, high = 0
        cdef uint64_t out[2]
        cdef uint8_t data[KEY + DIGEST]
        cdef Leaf* leaf
        if PyBytes_GET_SIZE(key) != 16:
            raise ValueError(f"expected a key of 16 bytes, found {len(key)}")
        secret = <const uint8_t*>PyBytes_AS_STRING(key)
        k0 = read_word(secret, 8)
        k1 = read_word(secret + 8, 8)
        while at.leaf < end.leaf or (at.leaf == end.leaf and at.slot < end.slot):
            leaf = self._leaves[at.leaf]
            store_key(leaf.hi[at.slot], leaf.lo[at.slot], data)
            store(&leaf.fingerprint[at.slot], data + KEY)
            siphash(k0, k1, data, KEY + DIGEST, out)
            low += out[0]
            high += out[1] + (low < out[0])
            at.slot += 1
            if at.slot == <Py_ssize_t>self._counts[at.leaf]:
                at.leaf += 1
                at.slot = 0
        return (int(high) << 64 | int(low)).to_bytes(16, "big")

    # -- invariants ----------------------------------------------------------------------------

    def _check(self):
        """Assert every invariant of the structure. O(n)."""
        cdef Py_ssize_t i, j, entries = 0, filled = 0
        cdef uint64_t slot, used = 0, text_bytes = 0
        cdef Sum total
        cdef Leaf* leaf
        cdef Entry* entry
        cdef Key last
        last.hi = 0
        last.lo = 0
        for i in range(self._leaf_count):
            leaf = self._leaves[i]
            assert 0 < self._counts[i] <= self._leaf_max, "a leaf is empty or overfull"
            assert self._first[i].hi == leaf.hi[0] and self._first[i].lo == leaf.lo[0], "first key"
            memset(&total, 0, sizeof(Sum))
            for j in range(<Py_ssize_t>self._counts[i]):
                assert key_less(last.hi, last.lo, leaf.hi[j], leaf.lo[j]), "keys do not ascend"
                last.hi = leaf.hi[j]
                last.lo = leaf.lo[j]
                entry = self._find(last.hi, last.lo)
                assert entry.hi == last.hi and entry.lo == last.lo, "a key is not in the table"
                assert entry.size == leaf.size[j], "sizes differ"
                filled += leaf.size[j] > 0
                text_bytes += leaf.size[j]
                add(&total, &leaf.fingerprint[j])
            assert sum_bytes(&total) == sum_bytes(&self._sums[i]), "a leaf's sum"
            entries += self._counts[i]
        for slot in range(self._mask + 1):
            used += self._table[slot].hi != 0
        assert entries == self._count == <Py_ssize_t>used, "table and leaves differ in number"
        assert filled == self.filled and text_bytes == self.text_bytes, "totals"
        assert self._count * 10 <= <Py_ssize_t>(self._mask + 1) * 7, "the table is too full"


cdef class _Iterator:
    """Iterates over coordinates of an index that does not change meanwhile."""

    cdef CoordinateIndex _index
    cdef Place _at
    cdef Place _end
    cdef uint64_t _changes
    cdef bint _filled
    cdef bint _reverse

    @staticmethod
    cdef _Iterator of(CoordinateIndex index, CoordinateRange range_, bint filled, bint reverse):
        cdef _Iterator made = _Iterator.__new__(_Iterator)
        made._index = index
        made._at = index._lower(range_)
        made._end = index._upper(range_)
        made._changes = index._changes
        made._filled = filled
        made._reverse = reverse
        return made

    def __iter__(self):
        return self

    def __next__(self):
        cdef Leaf* leaf
        cdef Py_ssize_t slot
        if self._changes != self._index._changes:
            raise RuntimeError("the index changed while it was iterated over")
        while self._at.leaf < self._end.leaf or (
            self._at.leaf == self._end.leaf and self._at.slot < self._end.slot
        ):
            if self._reverse:
                if self._end.slot == 0:
                    self._end.leaf -= 1
                    self._end.slot = self._index._counts[self._end.leaf]
                self._end.slot -= 1
                leaf = self._index._leaves[self._end.leaf]
                slot = self._end.slot
            else:
                leaf = self._index._leaves[self._at.leaf]
                slot = self._at.slot
                self._at.slot += 1
                if self._at.slot == <Py_ssize_t>self._index._counts[self._at.leaf]:
                    self._at.leaf += 1
                    self._at.slot = 0
            if leaf.size[slot] or not self._filled:
                return make_coordinate(leaf.hi[slot], leaf.lo[slot])
        raise StopIteration
