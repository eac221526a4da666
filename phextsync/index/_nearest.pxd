"""The nearest entries with text of a tree: a search that takes up first what may hold the nearest.

Each inner node has for each child a box around the entries with text below it. What changes below
a child only forgets its box and those above it; a search finds out again those that it comes by,
so that a change costs nothing until somebody asks. A box that is known has only such below it.

The search holds a heap of nodes, by the least distance that their box allows, and one of the
entries found, the farthest on top. It ends when no node can hold anything nearer than that (G.
Hjaltason, H. Samet, "Distance Browsing in Spatial Databases", TODS 1999). Of equal distances the
lower key is the nearer.

C only: no module at run time.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from phextsync.index._coordinate cimport Key, key_less
from phextsync.index._parts cimport (
    LANES,
    Box,
    Parts,
    high_word,
    low_word,
    outside,
    spread,
    widen,
)
from phextsync.index._tree cimport LEAF, Inner, Leaf, Tree, fetch


cdef struct Reached:
    uint64_t hi  # of an entry its key; of a node one that is at most its least
    uint32_t lo
    uint32_t distance
    const void* node
    Py_ssize_t height


cdef struct Heap:
    Reached* items  # the first comes before all others
    Py_ssize_t count
    Py_ssize_t room


cdef struct Search:
    Parts target
    Key lower  # entries below it, and those from `upper` on, do not count
    Key upper
    uint32_t least  # 1: an entry at the target itself does not count
    Py_ssize_t wanted
    Heap nodes
    Heap found  # turned round by `turned`: the first is the farthest


# -- boxes -------------------------------------------------------------------------------------


cdef inline Box box_of(const void* node, Py_ssize_t height) noexcept nogil:
    """Return the box around the entries with text below a node, whose own boxes are known."""
    cdef const Leaf* leaf = <const Leaf*>node
    cdef const Inner* inner = <const Inner*>node
    cdef const Box* inside
    cdef Parts low, high, key
    cdef Box box
    cdef Py_ssize_t i
    low.odd = low.even = low.last = LANES
    high.odd = high.even = high.last = 0
    if height == 0:
        for i in range(leaf.used):
            if leaf.size[i]:
                key = spread(leaf.hi[i], leaf.lo[i])
                widen(&low, &high, key, key)
    else:
        for i in range(inner.used):
            inside = &inner.box[i]
            if inside.high_hi:
                widen(
                    &low, &high, spread(inside.low_hi, inside.low_lo),
                    spread(inside.high_hi, inside.high_lo),
                )
    box.low_hi = high_word(low)
    box.low_lo = low_word(low)
    box.high_hi = high_word(high)
    box.high_lo = low_word(high)
    return box


cdef inline void know_boxes(Inner* inner, Py_ssize_t height) noexcept nogil:
    """Find out those boxes of an inner node that are not known, and those below them."""
    cdef Py_ssize_t i
    for i in range(inner.used):
        if inner.box[i].low_hi == 0:
            if height > 1:
                know_boxes(<Inner*>inner.child[i], height - 1)
            inner.box[i] = box_of(inner.child[i], height - 1)


# -- heaps -------------------------------------------------------------------------------------


cdef inline bint comes_before(const Reached* a, const Reached* b) noexcept nogil:
    if a.distance != b.distance:
        return a.distance < b.distance
    return key_less(a.hi, a.lo, b.hi, b.lo)


cdef inline Reached turned(const Reached* entry) noexcept nogil:
    """Return what comes before those that `entry` came before, and the other way round."""
    cdef Reached other = entry[0]
    other.distance = ~entry.distance
    other.hi = ~entry.hi
    other.lo = ~entry.lo
    return other


cdef inline int push(Heap* heap, const Reached* item) noexcept nogil:
    """Put an item in. Return -1 when memory is short."""
    cdef Reached* items = heap.items
    cdef Py_ssize_t at = heap.count, above
    if heap.count == heap.room:
        items = <Reached*>realloc(items, 2 * <size_t>heap.room * sizeof(Reached))
        if items == NULL:
            return -1
        heap.items = items
        heap.room *= 2
    heap.count += 1
    while at:
        above = (at - 1) // 2
        if not comes_before(item, &items[above]):
            break
        items[at] = items[above]
        at = above
    items[at] = item[0]
    return 0


cdef inline Reached pop(Heap* heap) noexcept nogil:
    """Take the first item out of a heap that has one."""
    cdef Reached* items = heap.items
    cdef Reached first = items[0]
    heap.count -= 1
    sift(heap, &items[heap.count])
    return first


cdef inline void sift(Heap* heap, const Reached* item) noexcept nogil:
    """Put an item in the place of the first of a heap."""
    cdef Reached* items = heap.items
    cdef Reached sunk = item[0]
    cdef Py_ssize_t at = 0, below = 1
    while below < heap.count:
        if below + 1 < heap.count and comes_before(&items[below + 1], &items[below]):
            below += 1
        if not comes_before(&items[below], &sunk):
            break
        items[at] = items[below]
        at = below
        below = 2 * at + 1
    items[at] = sunk


# -- searching ---------------------------------------------------------------------------------


cdef inline bint is_needed(const Search* search, const Reached* reached) noexcept nogil:
    """Whether an entry belongs to the nearest so far, or a node may hold one that does."""
    cdef Reached other
    if search.found.count < search.wanted:
        return True
    other = turned(reached)
    return comes_before(&search.found.items[0], &other)


cdef inline uint32_t search_limit(const Search* search) noexcept nogil:
    """Return the greatest distance at which something may still belong to the nearest."""
    if search.found.count < search.wanted:
        return <uint32_t>-1
    return ~search.found.items[0].distance


cdef inline int search_nearest(const Tree* tree, Search* search) noexcept nogil:
    """Find the nearest entries, the farthest first in `found`, which has room for them. Return -1
    when memory is short."""
    cdef Reached reached
    cdef const Leaf* leaf
    reached.hi = 0
    reached.lo = 0
    reached.distance = 0
    reached.node = tree.root
    reached.height = tree.height
    if tree.root == NULL or search.wanted == 0:
        return 0
    if push(&search.nodes, &reached):
        return -1
    while search.nodes.count:
        reached = pop(&search.nodes)
        if search.nodes.count and search.nodes.items[0].height == 0:  # the next, more often than not
            leaf = <const Leaf*>search.nodes.items[0].node
            fetch(&leaf.used, sizeof(Py_ssize_t))
            fetch(leaf.hi, LEAF * sizeof(uint64_t))
            fetch(leaf.lo, LEAF * sizeof(uint32_t))
        if not is_needed(search, &reached):
            return 0
        if reached.height:
            if search_inner(search, &reached):
                return -1
        else:
            search_leaf(search, <const Leaf*>reached.node)
    return 0


cdef inline int search_inner(Search* search, const Reached* parent) noexcept nogil:
    """Note the children of an inner node that may hold some of the nearest."""
    cdef Inner* inner = <Inner*>parent.node
    cdef const Box* box
    cdef Reached reached
    cdef Py_ssize_t i
    know_boxes(inner, parent.height)
    for i in range(inner.used):
        box = &inner.box[i]
        reached.hi = inner.hi[i] if i else parent.hi
        reached.lo = inner.lo[i] if i else parent.lo
        if not key_less(reached.hi, reached.lo, search.upper.hi, search.upper.lo):
            break
        if box.high_hi == 0 or i + 1 < inner.used and not key_less(
            search.lower.hi, search.lower.lo, inner.hi[i + 1], inner.lo[i + 1]
        ):
            continue
        reached.distance = outside(
            search.target, spread(box.low_hi, box.low_lo), spread(box.high_hi, box.high_lo)
        )
        reached.node = inner.child[i]
        reached.height = parent.height - 1
        if is_needed(search, &reached) and push(&search.nodes, &reached):
            return -1
    return 0


cdef inline void search_leaf(Search* search, const Leaf* leaf) noexcept nogil:
    """Note the entries of a leaf that belong to the nearest so far."""
    cdef uint32_t distances[LEAF]
    cdef uint32_t limit = search_limit(search)
    cdef Reached reached, other
    cdef Parts key
    cdef Py_ssize_t i
    reached.node = NULL
    reached.height = 0
    for i in range(leaf.used):  # a loop without branches: compilers do several at a time
        key = spread(leaf.hi[i], leaf.lo[i])
        distances[i] = outside(search.target, key, key)
    for i in range(leaf.used):
        if distances[i] > limit:
            continue
        reached.distance = distances[i]
        reached.hi = leaf.hi[i]
        reached.lo = leaf.lo[i]
        if (
            reached.distance < search.least
            or not is_needed(search, &reached)
            or leaf.size[i] == 0
            or key_less(reached.hi, reached.lo, search.lower.hi, search.lower.lo)
            or not key_less(reached.hi, reached.lo, search.upper.hi, search.upper.lo)
        ):
            continue
        other = turned(&reached)
        if search.found.count < search.wanted:
            push(&search.found, &other)
        else:
            sift(&search.found, &other)
        limit = search_limit(search)
