# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""CoordinateIndex: coordinate -> (object or None, fingerprint, size), hashed and in order.

A hash table (`_table.pxd`) answers for single coordinates, a B+ tree (`_tree.pxd`) for order, ranks
and the fingerprints of ranges. Every entry is in both, with one size; objects are in the table,
fingerprints in the tree. `check` asserts this and what both files say of themselves. Once it was
asked for, a sketch (`_sketch.pxd`) of keys and fingerprints follows every change. `_nearest.pxd`
finds what is near a coordinate.

One thread; nothing here lets another run. Objects must not refer back to the index: Python's
collector does not look inside.
"""

import os

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

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
    try_key,
    tuple_key,
)
from phextsync.index._nearest cimport (
    Reached,
    Search,
    box_of,
    pop,
    search_nearest,
    turned,
)
from phextsync.index._parts cimport Box, spread
from phextsync.index._siphash cimport read_word, siphash
from phextsync.index._sketch cimport (
    BUCKETS,
    CELLS,
    STRATA,
    Cell,
    P,
    Pair,
    Peeling,
    Sketch,
    is_parts,
    minus,
    peel,
    sketch_change,
    sketch_settle,
    value_of,
)
from phextsync.index._sums cimport (
    DIGEST,
    KEY,
    Sum,
    load_sum,
    read_u32,
    read_u64,
    store_key,
    store_sum,
    subtract,
    write_u64,
)
from phextsync.index._table cimport (
    Entry,
    Table,
    erase,
    find,
    home_of,
    prefetch,
    reserve,
    seed_table,
)
from phextsync.index._tree cimport (
    INNER,
    LEAF,
    Inner,
    Leaf,
    Path,
    Place,
    Tree,
    add_up,
    is_at,
    step,
    tree_free,
    tree_grow,
    tree_insert,
    tree_remove,
    tree_seek,
    tree_select,
    tree_update,
    tree_walk,
)

from phextsync.errors import CoordinateError
from phextsync.index._coordinate import EVERYTHING as _EVERYTHING

SKETCH_CELLS = CELLS

cdef CoordinateRange _everything = _EVERYTHING
cdef object _keep = object()

cdef enum:
    AHEAD = 16  # entries fetched before they are looked at
    CELL = 23
    MARK = 8
    DISTANCE_MAX = 13


cdef struct Loaded:
    uint64_t hi
    uint32_t lo
    uint32_t source  # its place in what was given


cdef struct Span:
    Place at
    Py_ssize_t count


cdef inline int read_key(object coordinate, Key* key) except -1:
    if type(coordinate) is Coordinate:
        key.hi = (<Coordinate>coordinate)._hi
        key.lo = (<Coordinate>coordinate)._lo
        if key.hi == 0:
            raise CoordinateError("expected a coordinate, found one without numbers")
        return 0
    if type(coordinate) is str:
        return parse_key(<str>coordinate, key)
    if type(coordinate) is tuple:
        return tuple_key(<tuple>coordinate, key)
    raise CoordinateError(f"expected a coordinate, found {type(coordinate).__name__}")


cdef inline bytes sum_bytes(const Sum* found):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, DIGEST)
    store_sum(found, <uint8_t*>PyBytes_AS_STRING(data))
    return data


cdef inline Coordinate coordinate_at(Place place):
    return make_coordinate(place.leaf.hi[place.slot], place.leaf.lo[place.slot])


@cython.final
cdef class CoordinateIndex:
    """An ordered map of coordinates to (object or None, fingerprint, size).

    Coordinates are given as `Coordinate`, as text, or as a tuple of nine numbers. A fingerprint
    has 32 bytes; a size is that of a scroll's text, 0 for a scroll that only has history.

    `seed` is secret, drawn from the system when not given. `leaf_max` and `inner_max` bound the
    nodes of the tree; only tests want small ones.
    """

    cdef Table _table
    cdef Tree _tree
    cdef Sketch* _sketch  # NULL until it is asked for
    cdef uint64_t _changes
    cdef readonly Py_ssize_t filled
    cdef readonly uint64_t text_bytes

    def __cinit__(
        self, *, Py_ssize_t leaf_max=LEAF, Py_ssize_t inner_max=INNER, seed=None
    ):
        if not 2 <= leaf_max <= LEAF:
            raise ValueError(f"expected leaves of 2 to {LEAF} entries, found {leaf_max}")
        if not 4 <= inner_max <= INNER:
            raise ValueError(f"expected inner nodes of 4 to {INNER} children, found {inner_max}")
        self._tree.leaf_max = leaf_max
        self._tree.inner_max = inner_max
        seed_table(&self._table, int.from_bytes(os.urandom(8), "big") if seed is None else seed)
        if reserve(&self._table, 1):
            raise MemoryError

    def __dealloc__(self):
        tree_free(self._tree.root, self._tree.height)
        free(self._sketch)
        _drop_entries(&self._table)

    def __sizeof__(self):
        """Bytes of the object, its table, its tree and its sketch. O(leaves)."""
        return (
            object.__sizeof__(self) + self._table.room * sizeof(Entry)
            + _tree_bytes(self._tree.root, self._tree.height)
            + (0 if self._sketch == NULL else sizeof(Sketch))
        )

    # -- changing ------------------------------------------------------------------------------

    cdef int _put(self, uint64_t hi, uint32_t lo, const uint8_t* fingerprint, uint32_t size
                  ) except -1:
        """Insert or update an entry; its object stays."""
        cdef Entry* entry
        cdef Sum mark, old
        cdef uint64_t before = 0
        cdef Path path
        prefetch(fingerprint)
        prefetch(self._table.entries + home_of(&self._table, hi, lo))
        tree_walk(&self._tree, hi, lo, &path)
        load_sum(&mark, fingerprint)
        entry = find(&self._table, hi, lo)
        if entry.hi:
            old = tree_update(&self._tree, &path, size, &mark)
            before = value_of(old.limb[3])
            self.filled -= entry.size > 0
            self.text_bytes -= entry.size
        else:
            if (self._table.count + 1) * 8 > self._table.room * 5:
                if reserve(&self._table, self._table.count + 1):
                    raise MemoryError
                entry = find(&self._table, hi, lo)
            if tree_insert(&self._tree, &path, hi, lo, size, &mark):
                raise MemoryError
            entry.hi = hi
            entry.lo = lo
            self._table.count += 1
            self._changes += 1
        if self._sketch != NULL:
            sketch_change(self._sketch, hi, lo, before, value_of(mark.limb[3]))
        entry.size = size
        self.filled += size > 0
        self.text_bytes += size
        return 0

    def set(self, coordinate, bytes fingerprint not None, uint32_t size, value=_keep):
        """Insert or update an entry; its object stays unless one (or None) is given. O(log n)."""
        cdef Key key
        read_key(coordinate, &key)
        if PyBytes_GET_SIZE(fingerprint) != DIGEST:
            raise ValueError(f"expected a fingerprint of 32 bytes, found {len(fingerprint)}")
        self._put(key.hi, key.lo, <const uint8_t*>PyBytes_AS_STRING(fingerprint), size)
        if value is not _keep:
            _attach(find(&self._table, key.hi, key.lo), value)

    def set_value(self, coordinate, value):
        """Attach an object to an entry, None detaches. KeyError when there is no entry."""
        cdef Key key
        cdef Entry* entry
        read_key(coordinate, &key)
        entry = find(&self._table, key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        _attach(entry, value)

    def remove(self, coordinate):
        """Remove an entry. KeyError when there is none. O(log n)."""
        cdef Key key
        cdef Entry* entry
        cdef PyObject* value
        cdef Sum old
        read_key(coordinate, &key)
        entry = find(&self._table, key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        value = entry.value
        self.filled -= entry.size > 0
        self.text_bytes -= entry.size
        erase(&self._table, entry)
        old = tree_remove(&self._tree, key.hi, key.lo)
        if self._sketch != NULL:
            sketch_change(self._sketch, key.hi, key.lo, value_of(old.limb[3]), 0)
        self._changes += 1
        if value != NULL:  # last: an object's end may run code that uses the index
            Py_DECREF(<object>value)

    def clear(self):
        """Remove everything."""
        cdef Tree tree = self._tree
        cdef Table table
        tree.root = NULL
        tree.height = 0
        tree.count = 0
        memset(&tree.sum, 0, sizeof(Sum))
        _empty_table(&table, &self._table, 1)
        self._replace(&tree, &table, 0, 0)

    cdef void _replace(
        self, const Tree* tree, const Table* table, Py_ssize_t filled, uint64_t text_bytes
    ) noexcept:
        """Take another tree and table in place of the present ones."""
        cdef Table old = self._table
        tree_free(self._tree.root, self._tree.height)
        free(self._sketch)
        self._sketch = NULL
        self._tree = tree[0]
        self._table = table[0]
        self.filled = filled
        self.text_bytes = text_bytes
        self._changes += 1
        _drop_entries(&old)  # last: an object's end may run code that uses the index

    def bulk_load(self, bytes keys not None, bytes fingerprints not None, bytes sizes not None):
        """Replace everything: n keys of 12 bytes, fingerprints of 32, sizes of 4 (native order).

        Keys may come in any order; ascending ones are fastest. ValueError when lengths differ or
        a key comes twice, CoordinateError when one is none; then nothing has changed.
        """
        cdef Py_ssize_t count = _packed_count(keys, fingerprints, sizes)
        cdef const uint8_t* marks = <const uint8_t*>PyBytes_AS_STRING(fingerprints)
        cdef const uint8_t* size_at = <const uint8_t*>PyBytes_AS_STRING(sizes)
        cdef Loaded* memory
        cdef const Loaded* loaded
        cdef Tree tree = self._tree
        cdef Table table
        cdef Py_ssize_t filled = 0, i
        cdef uint64_t text_bytes = 0
        cdef uint32_t size
        if count == 0:
            self.clear()
            return
        memory = <Loaded*>malloc(2 * <size_t>count * sizeof(Loaded))
        if memory == NULL:
            raise MemoryError
        table.entries = NULL
        try:
            loaded = _sorted_keys(<const uint8_t*>PyBytes_AS_STRING(keys), count, memory)
            _empty_table(&table, &self._table, <uint64_t>count)
            _build_tree(&tree, loaded, count, marks, size_at)
            _fill_table(&table, loaded, count, size_at)
        except BaseException:
            free(table.entries)
            raise
        finally:
            free(memory)
        for i in range(count):
            memcpy(&size, size_at + 4 * i, 4)
            filled += size > 0
            text_bytes += size
        self._replace(&tree, &table, filled, text_bytes)

    def set_many(self, bytes keys not None, bytes fingerprints not None, bytes sizes not None):
        """Insert or update n entries, given as `bulk_load` takes them. Objects stay.

        The last of equal keys counts. On an error nothing has changed.
        """
        cdef Py_ssize_t count = _packed_count(keys, fingerprints, sizes), i
        cdef const uint8_t* key_at = <const uint8_t*>PyBytes_AS_STRING(keys)
        cdef const uint8_t* mark_at = <const uint8_t*>PyBytes_AS_STRING(fingerprints)
        cdef const uint8_t* size_at = <const uint8_t*>PyBytes_AS_STRING(sizes)
        cdef uint32_t size
        cdef Key key
        for i in range(count):
            bytes_key(key_at + i * KEY, &key)
        for i in range(count):
            memcpy(&size, size_at + 4 * i, 4)
            self._put(
                read_u64(key_at + i * KEY), read_u32(key_at + i * KEY + 8), mark_at + i * DIGEST,
                size,
            )

    # -- points --------------------------------------------------------------------------------

    def __len__(self):
        return <Py_ssize_t>self._table.count

    def __contains__(self, coordinate):
        cdef Key key
        read_key(coordinate, &key)
        return find(&self._table, key.hi, key.lo).hi != 0

    def __getitem__(self, coordinate):
        cdef Key key
        cdef Entry* entry
        read_key(coordinate, &key)
        entry = find(&self._table, key.hi, key.lo)
        if entry.hi == 0:
            raise KeyError(coordinate)
        return None if entry.value == NULL else <object>entry.value

    def get(self, coordinate, default=None):
        """Return the object of an entry, `default` when there is neither entry nor object."""
        cdef Key key
        cdef Entry* entry
        read_key(coordinate, &key)
        entry = find(&self._table, key.hi, key.lo)
        return default if entry.value == NULL else <object>entry.value

    def size_of(self, coordinate):
        """Return the size of an entry, 0 when there is none."""
        cdef Key key
        read_key(coordinate, &key)
        return find(&self._table, key.hi, key.lo).size

    def fingerprint_of(self, coordinate):
        """Return the 32 bytes of an entry's fingerprint, None when there is no entry. O(log n)."""
        cdef Key key
        cdef Place place
        read_key(coordinate, &key)
        place = tree_seek(&self._tree, key.hi, key.lo, NULL, NULL)
        if not is_at(place, key.hi, key.lo):
            return None
        return sum_bytes(&place.leaf.fingerprint[place.slot])

    def lookup_many(self, bytes keys not None):
        """Return the sizes of n keys of 12 bytes as uint32 in native order, 2**32 - 1 for none."""
        cdef Py_ssize_t count = PyBytes_GET_SIZE(keys) // KEY
        cdef bytes found = PyBytes_FromStringAndSize(NULL, 4 * count)
        if PyBytes_GET_SIZE(keys) != count * KEY:
            raise ValueError(f"expected keys of 12 bytes, found {len(keys)} bytes")
        _look_up(
            &self._table, <const uint8_t*>PyBytes_AS_STRING(keys), count,
            <uint8_t*>PyBytes_AS_STRING(found),
        )
        return found

    # -- order ---------------------------------------------------------------------------------

    cdef Span _span(self, CoordinateRange range_) noexcept:
        """Return where a range begins and how many entries it has."""
        cdef Span span
        cdef uint64_t lower, upper = self._tree.count
        span.at = tree_seek(&self._tree, range_.lower._hi, range_.lower._lo, &lower, NULL)
        if range_.upper is not None:
            tree_seek(&self._tree, range_.upper._hi, range_.upper._lo, &upper, NULL)
        span.count = <Py_ssize_t>(upper - lower)
        return span

    def rank(self, coordinate):
        """Return how many entries lie below `coordinate`. O(log n)."""
        cdef Key key
        cdef uint64_t rank
        read_key(coordinate, &key)
        tree_seek(&self._tree, key.hi, key.lo, &rank, NULL)
        return rank

    def select(self, Py_ssize_t position):
        """Return the coordinate at `position`, counted from 0. IndexError if none. O(log n)."""
        if not 0 <= position < <Py_ssize_t>self._tree.count:
            raise IndexError(f"expected a position below {self._tree.count}, found {position}")
        return coordinate_at(tree_select(&self._tree, <uint64_t>position))

    def lower_bound(self, coordinate):
        """Return the least stored coordinate not below `coordinate`, or None. O(log n)."""
        cdef Key key
        cdef Place place
        read_key(coordinate, &key)
        place = tree_seek(&self._tree, key.hi, key.lo, NULL, NULL)
        return None if place.leaf == NULL else coordinate_at(place)

    def nearest(
        self, coordinate, Py_ssize_t count, CoordinateRange range_ not None=_everything, *,
        bint itself=True
    ):
        """Return up to `count` (distance, coordinate) in a range, those with text, nearest first.

        A distance is the sum of what the nine parts differ by; of equal ones the lower coordinate
        comes first. `itself` tells whether an entry at `coordinate` counts, at distance 0. O(n) the
        first time after a bulk load; then it depends on how the entries lie, not on their number,
        unless they are strewn over so many parts that nothing is near.
        """
        cdef Key key
        read_key(coordinate, &key)
        if count < 0:
            raise ValueError(f"expected a count of 0 or more, found {count}")
        return _nearest(&self._tree, key, min(count, self.filled), range_, itself)

    def count(self, CoordinateRange range_ not None=_everything):
        """Return the number of entries in a range. O(log n)."""
        return self._span(range_).count

    def fingerprint(self, CoordinateRange range_ not None=_everything):
        """Return (count, sum of fingerprints modulo 2^256 as 32 bytes) of a range. O(log n)."""
        cdef uint64_t lower = 0, upper = self._tree.count
        cdef Sum total = self._tree.sum
        cdef Sum before
        if range_.upper is not None:
            tree_seek(&self._tree, range_.upper._hi, range_.upper._lo, &upper, &total)
        if range_.lower is not _everything.lower:
            tree_seek(&self._tree, range_.lower._hi, range_.lower._lo, &lower, &before)
            subtract(&total, &before)
        return upper - lower, sum_bytes(&total)

    def coordinates(
        self, CoordinateRange range_ not None=_everything, *, bint filled=False,
        bint reverse=False
    ):
        """Iterate over the coordinates in a range; `filled` leaves out those of size 0.

        RuntimeError when entries come or go meanwhile.
        """
        return _iterate(self, range_, filled, reverse)

    def __iter__(self):
        return _iterate(self, _everything, False, False)

    def entries(self, CoordinateRange range_ not None=_everything, limit=None):
        """Return up to `limit` (coordinate, fingerprint, size) in a range, in order."""
        cdef Span span = self._span(range_)
        cdef list found = []
        cdef Py_ssize_t i
        if limit is not None:
            span.count = min(span.count, <Py_ssize_t>limit)
        for i in range(span.count):
            found.append((
                coordinate_at(span.at),
                sum_bytes(&span.at.leaf.fingerprint[span.at.slot]),
                span.at.leaf.size[span.at.slot],
            ))
            step(&span.at)
        return found

    def keys_packed(self, CoordinateRange range_ not None=_everything):
        """Return the keys in a range, 12 bytes each, in order."""
        cdef Span span = self._span(range_)
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, span.count * KEY)
        cdef Py_ssize_t i
        for i in range(span.count):
            store_key(
                span.at.leaf.hi[span.at.slot], span.at.leaf.lo[span.at.slot],
                <uint8_t*>PyBytes_AS_STRING(packed) + i * KEY,
            )
            step(&span.at)
        return packed

    def list_entries(self, CoordinateRange range_ not None, bytes key=None):
        """Return the entries in a range as a list for `compare_list`.

        For each entry the distance of its key to the one before, at first to the lower bound, as
        LEB128 of the keys as numbers of 90 bits, and the first 8 bytes of its fingerprint or, under
        a `key` of 16 bytes, of SipHash-2-4-128 as in `audit`.
        """
        cdef const uint8_t* secret = _secret(key)
        cdef Span span = self._span(range_)
        cdef bytes listed = PyBytes_FromStringAndSize(NULL, span.count * (DISTANCE_MAX + MARK))
        cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(listed)
        return listed[: _list(span, range_.lower._hi, range_.lower._lo, secret, start) - start]

    def compare_list(self, CoordinateRange range_ not None, bytes listed not None, bytes key=None):
        """Compare the entries in a range with a list of another index's, from `list_entries`.

        Return the coordinates (only here, only there, different). ValueError when it is no list
        of entries in the range.
        """
        cdef const uint8_t* secret = _secret(key)
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(listed)
        cdef const uint8_t* end = at + PyBytes_GET_SIZE(listed)
        cdef Span span = self._span(range_)
        cdef list ours = [], theirs = [], different = []
        cdef Key theirs_key
        cdef uint8_t mark[MARK]
        cdef bint is_first = True
        theirs_key.hi = range_.lower._hi
        theirs_key.lo = range_.lower._lo
        while at < end:
            at = _read_entry(at, end, &theirs_key, is_first)
            if at == NULL or (
                range_.upper is not None
                and not key_less(theirs_key.hi, theirs_key.lo, range_.upper._hi, range_.upper._lo)
            ):
                raise ValueError(f"expected a list of entries in {range_}, found something else")
            is_first = False
            while span.count and _is_below(span.at, &theirs_key):
                ours.append(coordinate_at(span.at))
                _advance(&span)
            if span.count and is_at(span.at, theirs_key.hi, theirs_key.lo):
                _mark_at(span.at, secret, mark)
                if memcmp(mark, at - MARK, MARK):
                    different.append(coordinate_at(span.at))
                _advance(&span)
            else:
                theirs.append(make_coordinate(theirs_key.hi, theirs_key.lo))
        while span.count:
            ours.append(coordinate_at(span.at))
            _advance(&span)
        return ours, theirs, different

    def audit(self, CoordinateRange range_ not None, bytes key not None):
        """Return the sum modulo 2^128 of SipHash-2-4-128 under `key` (16 bytes) over the range.

        Hashed are an entry's key and its fingerprint. 16 bytes, big-endian. O(entries).
        """
        cdef uint64_t total[2]
        _audit(self._span(range_), _secret(key), total)
        return (int(total[1]) << 64 | int(total[0])).to_bytes(16, "big")

    # -- the sketch ----------------------------------------------------------------------------

    cdef Sketch* _kept_sketch(self) except NULL:
        if self._sketch == NULL:
            self._sketch = _new_sketch(&self._tree)
        sketch_settle(self._sketch)
        return self._sketch

    def sketch_strata(self):
        """Return the strata of the sketch, 10 rows of 16 bytes.

        O(entries) the first time after a bulk load, then kept up to date.
        """
        cdef Sketch* sketch = self._kept_sketch()
        return PyBytes_FromStringAndSize(<char*>sketch.bucket, STRATA * BUCKETS)

    def sketch_cells(self, Py_ssize_t count):
        """Return the first `count` cells of the sketch: 3 integers of 61 bits in 23 bytes each.

        O(entries) the first time after a bulk load, then kept up to date.
        """
        cdef Sketch* sketch
        cdef bytes packed
        cdef Py_ssize_t i
        if not 0 <= count <= CELLS:
            raise ValueError(f"expected 0 to {CELLS} cells, found {count}")
        sketch = self._kept_sketch()
        packed = PyBytes_FromStringAndSize(NULL, CELL * count)
        for i in range(count):
            _store_cell(&sketch.cell[i], <uint8_t*>PyBytes_AS_STRING(packed) + CELL * i)
        return packed

    def sketch_difference(self, bytes theirs not None):
        """Read the difference to another index from its cells, as `sketch_cells` gives them.

        Return the coordinates (only here, only there, changed), or None when there are too many
        for the cells. A hint: values are 61 bits. ValueError when they are no cells.
        """
        cdef Py_ssize_t count = PyBytes_GET_SIZE(theirs) // CELL, i
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(theirs)
        cdef Sketch* sketch = self._kept_sketch()
        cdef Peeling work
        if count > CELLS or PyBytes_GET_SIZE(theirs) != CELL * count:
            raise ValueError(f"expected up to {CELLS} cells of {CELL} bytes, found {len(theirs)} bytes")
        memset(&work, 0, sizeof(Peeling))
        work.count = count
        work.cell = <Cell*>malloc(<size_t>(count + 1) * (sizeof(Cell) + sizeof(Pair) + 17))
        if work.cell == NULL:
            raise MemoryError
        work.found = <Pair*>(work.cell + count)
        work.inverse = <uint64_t*>(work.found + count)
        work.now = <uint32_t*>(work.inverse + count)
        work.later = work.now + count
        work.is_later = <uint8_t*>(work.later + count)
        try:
            for i in range(count):
                if not _subtract_cell(&sketch.cell[i], data + CELL * i, &work.cell[i]):
                    raise ValueError(f"expected integers below 2^61 - 1 in cell {i}, found others")
            return self._sorted_out(&work) if peel(&work) else None
        finally:
            free(work.cell)

    cdef tuple _sorted_out(self, Peeling* work):
        """Tell of each pair that was found who has it."""
        cdef list ours = [], theirs = [], changed = []
        cdef Pair* pair
        cdef Place place
        cdef Py_ssize_t i
        for i in range(work.found_count):
            pair = work.found + i
            place = tree_seek(&self._tree, pair.hi, pair.lo, NULL, NULL)
            if not is_at(place, pair.hi, pair.lo):
                theirs.append(make_coordinate(pair.hi, pair.lo))
            elif value_of(place.leaf.fingerprint[place.slot].limb[3]) == pair.value:
                ours.append(make_coordinate(pair.hi, pair.lo))
            else:
                changed.append(make_coordinate(pair.hi, pair.lo))
        return ours, theirs, changed

    # -- invariants ----------------------------------------------------------------------------

    def check(self):
        """Assert every invariant of the structure. O(n)."""
        cdef Leaf* leaf = NULL
        cdef Sum total
        cdef uint64_t entries = 0, text_bytes = 0, i
        cdef Py_ssize_t filled = 0, j
        cdef Entry* entry
        cdef Sketch* sketch
        if self._sketch != NULL:
            sketch = _new_sketch(&self._tree)
            sketch_settle(self._sketch)
            is_same = (
                memcmp(sketch.cell, self._sketch.cell, sizeof(sketch.cell)) == 0
                and memcmp(sketch.bucket, self._sketch.bucket, sizeof(sketch.bucket)) == 0
            )
            free(sketch)
            assert is_same, "the sketch"
        if self._tree.root != NULL:
            _check_node(&self._tree, self._tree.root, self._tree.height, True, NULL, NULL)
            add_up(self._tree.root, self._tree.height == 0, &entries, &total)
            assert entries == self._tree.count, "the tree's count"
            assert sum_bytes(&total) == sum_bytes(&self._tree.sum), "the tree's sum"
            leaf = _first_leaf(&self._tree)
            assert leaf.previous == NULL, "the first leaf has one before it"
        else:
            assert self._tree.count == 0, "no tree but entries"
            assert sum_bytes(&self._tree.sum) == bytes(DIGEST), "no tree but a sum"
        entries = 0
        while leaf != NULL:
            assert leaf.next == NULL or leaf.next.previous == leaf, "leaves are not linked"
            for j in range(leaf.used):
                entry = find(&self._table, leaf.hi[j], leaf.lo[j])
                assert entry.hi, "a key of the tree is not in the table"
                assert entry.size == leaf.size[j], "sizes differ"
                filled += entry.size > 0
                text_bytes += entry.size
                entries += 1
                if j or leaf.previous != NULL:
                    assert _is_ascending(leaf, j), "keys do not ascend along the leaves"
            leaf = leaf.next
        assert entries == self._table.count == self._tree.count, "the counts of tree and table"
        for i in range(self._table.room):
            if self._table.entries[i].hi:
                entries -= 1
            else:
                assert self._table.entries[i].value == NULL, "a free entry has an object"
        assert entries == 0, "the table has other entries"
        assert self._table.count * 8 <= self._table.room * 5, "the table is too full"
        assert filled == self.filled and text_bytes == self.text_bytes, "totals"


cdef class OpenText:
    """What is attached to the coordinate of an open scroll: its text for readers.

    `text` is None when the scroll has none or a newer one; `used` is set by every read. `cost` is
    its share of a budget of bytes, for the owner of one.
    """

    cdef public str text
    cdef public bint used
    cdef public Py_ssize_t cost


cdef class OpenTexts:
    """A mapping's subscript in C: the texts of open scrolls; `fetch` is asked for all others.

    A read of an open text runs no Python code and lets no other thread run, so it is whole and
    current in any thread. `elsewhere` are dictionaries by coordinates with what the index does not
    know or knows otherwise. What is in none of them, and in the index without anything attached, is
    closed: `closed` is asked for its text, "" for none. What is in none of them nor in the index is
    not there.
    """

    cdef public CoordinateIndex index
    cdef public tuple elsewhere
    cdef public object closed

    def __cinit__(self, *_, **__):
        self.index = CoordinateIndex()

    def __class_getitem__(cls, _):
        """The type of what ranges and slices give is for the checker of types alone."""
        return cls

    cdef Entry* _entry(self, key, Key* place):
        """Return the entry of `key`, or the free one for it; NULL for what is no coordinate."""
        if type(key) is str:
            if not try_key(<str>key, place):
                return NULL
        elif type(key) is Coordinate:
            place.hi = (<Coordinate>key)._hi
            place.lo = (<Coordinate>key)._lo
        else:
            return NULL
        return find(&self.index._table, place.hi, place.lo)

    cdef bint _is_elsewhere(self, Key place):
        """Whether the index may not know all of a key."""
        cdef dict places
        cdef Coordinate coordinate = None
        if self.elsewhere is None:
            return True
        for places in self.elsewhere:
            if places:
                if coordinate is None:
                    coordinate = make_coordinate(place.hi, place.lo)
                if coordinate in places:
                    return True
        return False

    cdef _find(self, key):
        """Return the text at `key`, None when it is not there."""
        cdef Key place
        cdef Entry* entry = self._entry(key, &place)
        cdef OpenText opened
        cdef bint is_there
        if entry == NULL:
            return self.fetch(key)
        is_there = entry.hi != 0
        if entry.value != NULL and isinstance(<object>entry.value, OpenText):
            opened = <OpenText>entry.value
            if opened.text is not None:
                opened.used = True
                return opened.text
        elif entry.value == NULL and not self._is_elsewhere(place):
            if not is_there:
                return None
            if type(key) is not Coordinate:
                key = make_coordinate(place.hi, place.lo)
            return self.closed(key) or None
        return self.fetch(key)

    def __getitem__(self, key):
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key, default=None):
        """Return the text at `key`, or `default` when there is none."""
        try:
            found = self._find(key)
        except KeyError:
            return default
        return default if found is None else found

    def is_open(self, key):
        """Whether something is attached to a coordinate. From any thread."""
        cdef Key place
        cdef Entry* entry = self._entry(key, &place)
        return (
            entry != NULL and entry.value != NULL and isinstance(<object>entry.value, OpenText)
        )

    def fetch(self, key):
        """Return the text at `key`, or what else the mapping has for it."""
        raise KeyError(key)


# -- iteration ---------------------------------------------------------------------------------


@cython.final
cdef class _Iterator:
    """Iterates over coordinates of an index that does not change meanwhile."""

    cdef CoordinateIndex _index
    cdef Place _at
    cdef Py_ssize_t _left
    cdef uint64_t _changes
    cdef bint _filled
    cdef bint _reverse

    def __iter__(self):
        return self

    def __next__(self):
        cdef Place at
        if self._changes != self._index._changes:
            raise RuntimeError("the index changed while it was iterated over")
        while self._left:
            self._left -= 1
            at = self._at
            if self._left == 0:
                pass
            elif not self._reverse:
                step(&self._at)
            elif at.slot:
                self._at.slot -= 1
            else:
                self._at.leaf = at.leaf.previous
                self._at.slot = self._at.leaf.used - 1
            if at.leaf.size[at.slot] or not self._filled:
                return coordinate_at(at)
        raise StopIteration


cdef _Iterator _iterate(CoordinateIndex index, CoordinateRange range_, bint filled, bint reverse):
    cdef _Iterator made = _Iterator.__new__(_Iterator)
    cdef Span span = index._span(range_)
    cdef uint64_t last
    made._index = index
    made._at = span.at
    made._left = span.count
    made._changes = index._changes
    made._filled = filled
    made._reverse = reverse
    if reverse and span.count:
        tree_seek(&index._tree, range_.lower._hi, range_.lower._lo, &last, NULL)
        last += <uint64_t>span.count - 1
        made._at = tree_select(&index._tree, last)
    return made


cdef list _nearest(
    const Tree* tree, Key target, Py_ssize_t count, CoordinateRange range_, bint itself
):
    """Return the nearest entries of a tree that has at least `count` with text."""
    cdef Search search
    cdef Reached reached
    cdef list found = []
    memset(&search, 0, sizeof(Search))
    search.target = spread(target.hi, target.lo)
    search.lower.hi = range_.lower._hi
    search.lower.lo = range_.lower._lo
    search.upper.hi = <uint64_t>-1
    if range_.upper is not None:
        search.upper.hi = range_.upper._hi
        search.upper.lo = range_.upper._lo
    search.least = not itself
    search.wanted = count
    search.nodes.room = INNER
    search.found.room = count + 1
    search.nodes.items = <Reached*>malloc(<size_t>search.nodes.room * sizeof(Reached))
    search.found.items = <Reached*>malloc(<size_t>search.found.room * sizeof(Reached))
    try:
        if search.nodes.items == NULL or search.found.items == NULL:
            raise MemoryError
        if search_nearest(tree, &search):
            raise MemoryError
        while search.found.count:
            reached = pop(&search.found)
            reached = turned(&reached)
            found.append((reached.distance, make_coordinate(reached.hi, reached.lo)))
    finally:
        free(search.nodes.items)
        free(search.found.items)
    found.reverse()
    return found


# -- the table ---------------------------------------------------------------------------------


cdef void _attach(Entry* entry, object value) noexcept:
    cdef PyObject* old = entry.value
    if value is None:
        entry.value = NULL
    else:
        Py_INCREF(value)
        entry.value = <PyObject*>value
    if old != NULL:  # last: an object's end may run code that uses the index
        Py_DECREF(<object>old)


cdef void _drop_entries(Table* table) noexcept:
    """Give back the objects and the memory of a table that nothing else knows any more."""
    cdef uint64_t i
    for i in range(table.room):
        if table.entries[i].value != NULL:
            Py_DECREF(<object>table.entries[i].value)
    free(table.entries)


cdef int _empty_table(Table* table, const Table* seeded, uint64_t count) except -1:
    """Make an empty table with room for `count` entries and the secret of another."""
    table[0] = seeded[0]
    table.entries = NULL
    table.room = 0
    table.count = 0
    if reserve(table, count):
        raise MemoryError
    return 0


cdef void _fill_table(
    Table* table, const Loaded* loaded, Py_ssize_t count, const uint8_t* size_at
) noexcept nogil:
    """Put keys that differ into an empty table."""
    cdef Entry* entry
    cdef Py_ssize_t i
    for i in range(count):
        if i + AHEAD < count:
            prefetch(table.entries + home_of(table, loaded[i + AHEAD].hi, loaded[i + AHEAD].lo))
        entry = find(table, loaded[i].hi, loaded[i].lo)
        entry.hi = loaded[i].hi
        entry.lo = loaded[i].lo
        memcpy(&entry.size, size_at + 4 * <Py_ssize_t>loaded[i].source, 4)
    table.count = <uint64_t>count


cdef void _look_up(
    const Table* table, const uint8_t* keys, Py_ssize_t count, uint8_t* sizes
) noexcept nogil:
    cdef Entry* entry
    cdef uint32_t absent = 0xFFFFFFFF
    cdef const uint8_t* ahead = keys
    cdef Py_ssize_t i
    for i in range(count + AHEAD):
        if i < count:
            prefetch(table.entries + home_of(table, read_u64(ahead), read_u32(ahead + 8)))
            ahead += KEY
        if i >= AHEAD:
            entry = find(table, read_u64(keys), read_u32(keys + 8))
            memcpy(sizes, &entry.size if entry.hi else &absent, 4)
            keys += KEY
            sizes += 4


# -- loading -----------------------------------------------------------------------------------


cdef Py_ssize_t _packed_count(bytes keys, bytes fingerprints, bytes sizes) except -1:
    cdef Py_ssize_t count = PyBytes_GET_SIZE(keys) // KEY
    if (
        PyBytes_GET_SIZE(keys) != count * KEY
        or PyBytes_GET_SIZE(fingerprints) != count * DIGEST
        or PyBytes_GET_SIZE(sizes) != count * 4
    ):
        raise ValueError(
            f"expected as many keys of 12 bytes as fingerprints of 32 and sizes of 4, "
            f"found {len(keys)}, {len(fingerprints)} and {len(sizes)} bytes"
        )
    if count >> 32:
        raise MemoryError
    return count


cdef Loaded* _sorted_keys(const uint8_t* keys, Py_ssize_t count, Loaded* loaded) except NULL:
    """Return the keys in order, each with its place in what was given.

    `loaded` has room for twice as many; the result is one half of it.
    """
    cdef bint is_sorted = True
    cdef Py_ssize_t i
    cdef Key key
    for i in range(count):
        bytes_key(keys + i * KEY, &key)
        loaded[i].hi = key.hi
        loaded[i].lo = key.lo
        loaded[i].source = <uint32_t>i
        is_sorted &= i == 0 or key_less(loaded[i - 1].hi, loaded[i - 1].lo, key.hi, key.lo)
    if is_sorted:
        return loaded
    loaded = _radix_sort(loaded, loaded + count, count)
    for i in range(1, count):
        if loaded[i].hi == loaded[i - 1].hi and loaded[i].lo == loaded[i - 1].lo:
            raise ValueError("expected every key once, found one twice")
    return loaded


cdef Loaded* _radix_sort(Loaded* loaded, Loaded* spare, Py_ssize_t count) noexcept nogil:
    """Sort by the nine parts, the last first; return where the result is. Parts are the digits."""
    cdef uint32_t begins[9][1024]
    cdef uint32_t begin, number
    cdef Py_ssize_t i
    cdef int part, j
    memset(begins, 0, sizeof(begins))
    for i in range(count):
        for part in range(9):
            begins[part][part_of(loaded[i], part)] += 1
    for part in range(8, -1, -1):
        if begins[part][part_of(loaded[0], part)] == <uint32_t>count:
            continue  # the same everywhere
        begin = 0
        for j in range(1024):
            number = begins[part][j]
            begins[part][j] = begin
            begin += number
        for i in range(count):
            j = part_of(loaded[i], part)
            spare[begins[part][j]] = loaded[i]
            begins[part][j] += 1
        loaded, spare = spare, loaded
    return loaded


cdef inline int part_of(Loaded key, int part) noexcept nogil:
    return <int>(key.hi >> (50 - 10 * part) if part < 6 else key.lo >> (80 - 10 * part)) & 1023


cdef int _build_tree(
    Tree* tree, const Loaded* loaded, Py_ssize_t count, const uint8_t* marks,
    const uint8_t* size_at
) except -1:
    """Build a tree of sorted keys, with leaves as full as is even."""
    cdef Py_ssize_t leaves = (count + tree.leaf_max - 1) // tree.leaf_max, at = 0, made = 0, used
    cdef void** nodes = <void**>malloc(<size_t>leaves * sizeof(void*))
    cdef Leaf* before = NULL
    cdef Leaf* leaf
    try:
        if nodes == NULL:
            raise MemoryError
        while made < leaves:
            leaf = <Leaf*>malloc(sizeof(Leaf))
            if leaf == NULL:
                for at in range(made):
                    free(nodes[at])
                raise MemoryError
            leaf.next = NULL
            leaf.previous = before
            if before != NULL:
                before.next = leaf
            used = (count - at) // (leaves - made)
            _fill_leaf(leaf, loaded + at, used, count - at, marks, size_at)
            nodes[made] = before = leaf
            at += used
            made += 1
        if tree_grow(tree, nodes, leaves):
            raise MemoryError
    finally:
        free(nodes)
    return 0


cdef void _fill_leaf(
    Leaf* leaf, const Loaded* loaded, Py_ssize_t used, Py_ssize_t left, const uint8_t* marks,
    const uint8_t* size_at
) noexcept nogil:
    """Fill a leaf with `used` of the `left` entries that are still to come."""
    cdef Py_ssize_t i, source
    leaf.used = used
    for i in range(used):
        if i + AHEAD < left:
            prefetch(marks + <Py_ssize_t>loaded[i + AHEAD].source * DIGEST)
            prefetch(size_at + <Py_ssize_t>loaded[i + AHEAD].source * 4)
        source = loaded[i].source
        leaf.hi[i] = loaded[i].hi
        leaf.lo[i] = loaded[i].lo
        memcpy(&leaf.size[i], size_at + source * 4, 4)
        load_sum(&leaf.fingerprint[i], marks + source * DIGEST)


# -- passing over entries ----------------------------------------------------------------------


cdef const uint8_t* _secret(bytes key) except? NULL:
    if key is None:
        return NULL
    if PyBytes_GET_SIZE(key) != 16:
        raise ValueError(f"expected a key of 16 bytes, found {len(key)}")
    return <const uint8_t*>PyBytes_AS_STRING(key)


cdef inline void _siphash_at(Place at, const uint8_t* secret, uint64_t* digest) noexcept nogil:
    """Hash an entry's key and fingerprint."""
    cdef uint8_t data[KEY + DIGEST]
    store_key(at.leaf.hi[at.slot], at.leaf.lo[at.slot], data)
    store_sum(&at.leaf.fingerprint[at.slot], data + KEY)
    siphash(read_word(secret, 8), read_word(secret + 8, 8), data, KEY + DIGEST, digest)


cdef inline void _mark_at(Place at, const uint8_t* secret, uint8_t* mark) noexcept nogil:
    """Write the 8 bytes that stand for an entry in a list."""
    cdef uint64_t digest[2]
    if secret == NULL:
        write_u64(at.leaf.fingerprint[at.slot].limb[3], mark)
    else:
        _siphash_at(at, secret, digest)
        write_u64(digest[0], mark)


cdef inline void _advance(Span* span) noexcept nogil:
    span.count -= 1
    if span.count:
        step(&span.at)


cdef inline bint _is_below(Place at, const Key* key) noexcept nogil:
    return key_less(at.leaf.hi[at.slot], at.leaf.lo[at.slot], key.hi, key.lo)


cdef uint8_t* _list(
    Span span, uint64_t hi, uint32_t lo, const uint8_t* secret, uint8_t* out
) noexcept nogil:
    cdef uint64_t above  # the distance: its upper bits, and its lower 30
    cdef uint32_t below
    while span.count:
        above = span.at.leaf.hi[span.at.slot] - hi
        below = span.at.leaf.lo[span.at.slot] - lo
        above -= below >> 31  # it was less: borrow
        below &= 0x3FFFFFFF
        while above or below >= 128:
            out[0] = <uint8_t>(below | 128)
            out += 1
            below = below >> 7 | <uint32_t>(above & 127) << 23
            above >>= 7
        out[0] = <uint8_t>below
        hi = span.at.leaf.hi[span.at.slot]
        lo = span.at.leaf.lo[span.at.slot]
        _mark_at(span.at, secret, out + 1)
        out += 1 + MARK
        _advance(&span)
    return out


cdef const uint8_t* _read_entry(
    const uint8_t* at, const uint8_t* end, Key* key, bint is_first
) noexcept nogil:
    """Read an entry of a list whose key follows `key`, which it replaces; NULL: it is not valid."""
    cdef uint64_t above = 0, byte
    cdef uint32_t below = 0
    cdef int shift = 0
    cdef bint is_last = False
    while not is_last:
        if at == end or shift >= 7 * DISTANCE_MAX:
            return NULL
        is_last = at[0] < 128
        byte = at[0] & 127
        if shift < 28:
            below |= <uint32_t>byte << shift
        elif shift == 28:
            below |= <uint32_t>(byte & 3) << 28
            above = byte >> 2
        else:
            above |= byte << (shift - 30)
        shift += 7
        at += 1
    if end - at < MARK or (not above and not below and not is_first):
        return NULL
    below += key.lo
    key.hi += above + (below >> 30)
    key.lo = below & 0x3FFFFFFF
    if above >> 60 or not is_parts(key.hi, 6) or not is_parts(key.lo, 3):
        return NULL
    return at + MARK


cdef void _audit(Span span, const uint8_t* secret, uint64_t* total) noexcept nogil:
    cdef uint64_t digest[2]
    cdef Py_ssize_t i
    total[0] = 0
    total[1] = 0
    for i in range(span.count):
        _siphash_at(span.at, secret, digest)
        total[0] += digest[0]
        total[1] += digest[1] + (total[0] < digest[0])
        step(&span.at)


cdef void _store_cell(const Cell* cell, uint8_t* out) noexcept nogil:
    """Write three integers of 61 bits one after the other, big-endian, and one bit of 0."""
    cdef uint8_t last[8]
    write_u64(cell.value << 3 | cell.x >> 58, out)
    write_u64(cell.x << 6 | cell.y >> 55, out + 8)
    write_u64(cell.y << 9, last)
    memcpy(out + 16, last, CELL - 16)


cdef bint _subtract_cell(const Cell* ours, const uint8_t* data, Cell* left) noexcept nogil:
    """Subtract a cell of a peer from ours; return whether it is one."""
    cdef uint8_t last[8]
    cdef uint64_t first = read_u64(data), second = read_u64(data + 8), third, x, y
    memset(last, 0, sizeof(last))
    memcpy(last, data + 16, CELL - 16)
    third = read_u64(last)
    x = (first & 7) << 58 | second >> 6
    y = (second & 63) << 55 | third >> 9
    if first >> 3 >= P or x >= P or y >= P or third & 256:
        return False
    left.value = minus(ours.value, first >> 3)
    left.x = minus(ours.x, x)
    left.y = minus(ours.y, y)
    return True


cdef Sketch* _new_sketch(const Tree* tree) except NULL:
    cdef Sketch* sketch = <Sketch*>calloc(1, sizeof(Sketch))
    cdef const Leaf* leaf = _first_leaf(tree)
    cdef Py_ssize_t i
    if sketch == NULL:
        raise MemoryError
    while leaf != NULL:
        for i in range(leaf.used):
            sketch_change(
                sketch, leaf.hi[i], leaf.lo[i], 0, value_of(leaf.fingerprint[i].limb[3])
            )
        leaf = leaf.next
    sketch_settle(sketch)
    return sketch


# -- the tree as a whole -----------------------------------------------------------------------


cdef Py_ssize_t _tree_bytes(const void* node, Py_ssize_t height) noexcept nogil:
    cdef Py_ssize_t total = sizeof(Inner), i
    if node == NULL:
        return 0
    if height == 0:
        return sizeof(Leaf)
    for i in range((<Inner*>node).used):
        total += _tree_bytes((<Inner*>node).child[i], height - 1)
    return total


cdef Leaf* _first_leaf(const Tree* tree) noexcept nogil:
    """Return the first leaf, NULL when there is no entry."""
    cdef void* node = tree.root
    cdef Py_ssize_t level
    for level in range(tree.height):
        node = (<Inner*>node).child[0]
    return <Leaf*>node


cdef bint _is_ascending(const Leaf* leaf, Py_ssize_t slot) noexcept nogil:
    """Whether the key at `slot` is above the one before it, which may be in the leaf before."""
    cdef const Leaf* before = leaf if slot else leaf.previous
    cdef Py_ssize_t i = slot - 1 if slot else before.used - 1
    return key_less(before.hi[i], before.lo[i], leaf.hi[slot], leaf.lo[slot])


cdef int _check_node(
    const Tree* tree, const void* node, Py_ssize_t height, bint is_last, Key* lower,
    Key* upper
) except -1:
    """Assert what `_tree.pxd` says of a node; its keys lie in [lower, upper), NULL: no bound."""
    cdef bint is_root = node == tree.root
    cdef const Inner* inner = <const Inner*>node
    cdef const Leaf* leaf = <const Leaf*>node
    cdef Key first, behind
    cdef uint64_t count
    cdef Sum total
    cdef Box box
    cdef Py_ssize_t i
    if height == 0:
        assert 0 < leaf.used <= tree.leaf_max, "a leaf is empty or overfull"
        assert is_root or is_last or leaf.used >= tree.leaf_max // 2, "a leaf is less than half"
        for i in range(leaf.used):
            assert lower == NULL or not key_less(leaf.hi[i], leaf.lo[i], lower.hi, lower.lo), \
                "a key lies below its leaf"
            assert upper == NULL or key_less(leaf.hi[i], leaf.lo[i], upper.hi, upper.lo), \
                "a key lies above its leaf"
        return 0
    assert 2 <= inner.used <= tree.inner_max, "an inner node has one child or too many"
    assert is_root or is_last or inner.used >= tree.inner_max // 2, "an inner node is less than half"
    for i in range(inner.used):
        first.hi = inner.hi[i]
        first.lo = inner.lo[i]
        if i + 1 < inner.used:
            behind.hi = inner.hi[i + 1]
            behind.lo = inner.lo[i + 1]
            assert i == 0 or key_less(first.hi, first.lo, behind.hi, behind.lo), \
                "separators do not ascend"
        _check_node(
            tree, inner.child[i], height - 1, is_last and i + 1 == inner.used,
            &first if i else lower, &behind if i + 1 < inner.used else upper,
        )
        add_up(inner.child[i], height == 1, &count, &total)
        assert count == inner.count[i], "the count of a child"
        assert sum_bytes(&total) == sum_bytes(&inner.sum[i]), "the sum of a child"
        if inner.box[i].low_hi:
            box = box_of(inner.child[i], height - 1)
            assert memcmp(&box, &inner.box[i], sizeof(Box)) == 0, "the box of a child"
    return 0
