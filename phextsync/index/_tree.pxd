"""A B+ tree of (key, size, fingerprint) whose nodes count and add up what lies below.

Keys lie in leaves, up to `leaf_max` in each, linked in order. An inner node has up to `inner_max`
children and, for each, a separator (at most the child's least key, above all keys of the child
before; that of child 0 is not looked at), the number of entries below it and the sum of their
fingerprints. So ranks, selection and sums of ranges cost one walk from the root. The box that it
has for each child too is for `_nearest.pxd`; what changes here only forgets it.

Every node but the root is at least half full, except the last of its level: ascending insertions
leave full nodes behind. An inner node has at least two children. All leaves are equally deep.

C only: no module at run time.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove, memset

from phextsync.index._coordinate cimport key_less
from phextsync.index._parts cimport Box
from phextsync.index._table cimport prefetch
from phextsync.index._sums cimport Sum, add, add_first, added_up, subtract

cdef enum:
    LEAF = 64
    INNER = 128
    LINE = 64  # bytes that memory is read in
    DEPTH = 48  # above log2 of any number of entries


cdef struct Leaf:
    Leaf* next
    Leaf* previous
    Py_ssize_t used
    uint64_t hi[LEAF]
    uint32_t lo[LEAF]
    uint32_t size[LEAF]
    Sum fingerprint[LEAF]


cdef struct Inner:
    Py_ssize_t used
    uint64_t hi[INNER]
    uint32_t lo[INNER]
    uint64_t count[INNER]
    void* child[INNER]
    Sum sum[INNER]
    Box box[INNER]


cdef struct Tree:
    void* root  # NULL: no entries
    Py_ssize_t height  # inner levels above the leaves
    Py_ssize_t leaf_max
    Py_ssize_t inner_max
    uint64_t count
    Sum sum


cdef struct Place:
    Leaf* leaf  # NULL: after the last entry
    Py_ssize_t slot


cdef struct Path:
    Inner* inner[DEPTH]  # from the root down
    Py_ssize_t child[DEPTH]
    Place place


# -- finding -----------------------------------------------------------------------------------


cdef inline Py_ssize_t not_above(
    const uint64_t* his, const uint32_t* los, Py_ssize_t used, uint64_t hi, uint32_t lo
) noexcept nogil:
    """Return how many of `used` ascending keys are at most (hi, lo)."""
    cdef Py_ssize_t base = 0, half, middle
    if used == 0:
        return 0
    while used > 1:  # without branches: their outcome cannot be foreseen
        half = used >> 1
        middle = base + half
        base += -<Py_ssize_t>(
            (his[middle] < hi) | ((his[middle] == hi) & (los[middle] <= lo))
        ) & half
        used -= half
    return base + ((his[base] < hi) | ((his[base] == hi) & (los[base] <= lo)))


cdef inline Py_ssize_t below(
    const uint64_t* his, const uint32_t* los, Py_ssize_t used, uint64_t hi, uint32_t lo
) noexcept nogil:
    """Return how many of `used` ascending keys are below (hi, lo)."""
    # No key of a coordinate has 0 for `lo`.
    return not_above(his, los, used, hi, lo - 1)


cdef inline Py_ssize_t child_of(const Inner* inner, uint64_t hi, uint32_t lo) noexcept nogil:
    return not_above(inner.hi + 1, inner.lo + 1, inner.used - 1, hi, lo)


cdef inline void fetch(const void* data, size_t size) noexcept nogil:
    """Have memory read that is needed soon, while something else is done."""
    cdef size_t at = 0
    while at < size:
        prefetch(<const char*>data + at)
        at += LINE


cdef inline Place tree_seek(
    const Tree* tree, uint64_t hi, uint32_t lo, uint64_t* rank, Sum* before
) noexcept nogil:
    """Return the place of the least key not below (hi, lo).

    `rank` and `before`, unless NULL, get the number and sum of the entries below it.
    """
    cdef void* node = tree.root
    cdef const Sum* whole = &tree.sum
    cdef Inner* inner
    cdef Py_ssize_t level, child, i
    cdef Place place
    if rank != NULL:
        rank[0] = 0
    if before != NULL:
        memset(before, 0, sizeof(Sum))
    place.leaf = NULL
    place.slot = 0
    if node == NULL:
        return place
    for level in range(tree.height):
        inner = <Inner*>node
        if before != NULL:
            fetch(inner.hi, inner.used * sizeof(uint64_t))
        child = child_of(inner, hi, lo)
        if level + 1 == tree.height:
            fetch((<Leaf*>inner.child[child]).hi, LEAF * sizeof(uint64_t))
            if before != NULL:
                fetch((<Leaf*>inner.child[child]).fingerprint, LEAF * sizeof(Sum))
        if rank != NULL:
            for i in range(child):
                rank[0] += inner.count[i]
        if before != NULL:
            add_first(before, inner.sum, child, inner.used, whole)
            whole = &inner.sum[child]
        node = inner.child[child]
    place.leaf = <Leaf*>node
    place.slot = below(place.leaf.hi, place.leaf.lo, place.leaf.used, hi, lo)
    if rank != NULL:
        rank[0] += <uint64_t>place.slot
    if before != NULL:
        add_first(before, place.leaf.fingerprint, place.slot, place.leaf.used, whole)
    if place.slot == place.leaf.used:
        place.leaf = place.leaf.next
        place.slot = 0
    return place


cdef inline Place tree_select(const Tree* tree, uint64_t position) noexcept nogil:
    """Return the place of the entry at `position`, which is below the tree's count."""
    cdef void* node = tree.root
    cdef Inner* inner
    cdef Py_ssize_t level, child
    cdef Place place
    for level in range(tree.height):
        inner = <Inner*>node
        child = 0
        while position >= inner.count[child]:
            position -= inner.count[child]
            child += 1
        node = inner.child[child]
    place.leaf = <Leaf*>node
    place.slot = <Py_ssize_t>position
    return place


cdef inline bint is_at(Place place, uint64_t hi, uint32_t lo) noexcept nogil:
    return (
        place.leaf != NULL
        and place.leaf.hi[place.slot] == hi
        and place.leaf.lo[place.slot] == lo
    )


cdef inline void step(Place* place) noexcept nogil:
    place.slot += 1
    if place.slot == place.leaf.used:
        place.leaf = place.leaf.next
        place.slot = 0


cdef inline void tree_walk(
    const Tree* tree, uint64_t hi, uint32_t lo, Path* path
) noexcept nogil:
    """Note the nodes down to the leaf where (hi, lo) is or would be, and its slot there.

    In an empty tree there is neither.
    """
    cdef void* node = tree.root
    cdef Py_ssize_t level
    path.place.leaf = NULL
    path.place.slot = 0
    if node == NULL:
        return
    for level in range(tree.height):
        path.inner[level] = <Inner*>node
        path.child[level] = child_of(path.inner[level], hi, lo)
        node = path.inner[level].child[path.child[level]]
    path.place.leaf = <Leaf*>node
    fetch(path.place.leaf.hi, LEAF * sizeof(uint64_t))
    path.place.slot = below(
        path.place.leaf.hi, path.place.leaf.lo, path.place.leaf.used, hi, lo
    )
    fetch(path.place.leaf.fingerprint + path.place.slot, sizeof(Sum))


# -- moving ------------------------------------------------------------------------------------


cdef inline void move_entries(
    Leaf* to, Py_ssize_t at, const Leaf* source, Py_ssize_t slot, Py_ssize_t count
) noexcept nogil:
    memmove(to.hi + at, source.hi + slot, <size_t>count * sizeof(uint64_t))
    memmove(to.lo + at, source.lo + slot, <size_t>count * sizeof(uint32_t))
    memmove(to.size + at, source.size + slot, <size_t>count * sizeof(uint32_t))
    memmove(to.fingerprint + at, source.fingerprint + slot, <size_t>count * sizeof(Sum))


cdef inline void move_children(
    Inner* to, Py_ssize_t at, const Inner* source, Py_ssize_t slot, Py_ssize_t count
) noexcept nogil:
    memmove(to.hi + at, source.hi + slot, <size_t>count * sizeof(uint64_t))
    memmove(to.lo + at, source.lo + slot, <size_t>count * sizeof(uint32_t))
    memmove(to.count + at, source.count + slot, <size_t>count * sizeof(uint64_t))
    memmove(to.child + at, source.child + slot, <size_t>count * sizeof(void*))
    memmove(to.sum + at, source.sum + slot, <size_t>count * sizeof(Sum))
    memmove(to.box + at, source.box + slot, <size_t>count * sizeof(Box))


cdef inline void add_up(const void* node, bint is_leaf, uint64_t* count, Sum* total) noexcept nogil:
    """Compute the number and sum of the entries below a node from the node itself."""
    cdef Py_ssize_t i
    if is_leaf:
        count[0] = <uint64_t>(<Leaf*>node).used
        total[0] = added_up((<Leaf*>node).fingerprint, (<Leaf*>node).used)
        return
    count[0] = 0
    for i in range((<Inner*>node).used):
        count[0] += (<Inner*>node).count[i]
    total[0] = added_up((<Inner*>node).sum, (<Inner*>node).used)


cdef inline void forget_box(Inner* inner, Py_ssize_t at) noexcept nogil:
    """The entries with text below child `at` are not those that they were."""
    inner.box[at].low_hi = 0


# -- changing ----------------------------------------------------------------------------------


cdef inline Sum tree_update(
    Tree* tree, const Path* path, uint32_t size, const Sum* fingerprint
) noexcept nogil:
    """Give the entry at `path` another size and fingerprint; return the fingerprint before."""
    cdef Sum change = fingerprint[0], before
    cdef Py_ssize_t level
    cdef bint has_text = path.place.leaf.size[path.place.slot] > 0
    before = path.place.leaf.fingerprint[path.place.slot]
    subtract(&change, &before)
    path.place.leaf.fingerprint[path.place.slot] = fingerprint[0]
    path.place.leaf.size[path.place.slot] = size
    if has_text != (size > 0):
        for level in range(tree.height):
            forget_box(path.inner[level], path.child[level])
    for level in range(tree.height):
        add(&path.inner[level].sum[path.child[level]], &change)
    add(&tree.sum, &change)
    return before


cdef inline int tree_insert(
    Tree* tree, Path* path, uint64_t hi, uint32_t lo, uint32_t size, const Sum* fingerprint
) noexcept nogil:
    """Insert a key that is not there, at its `path`. Return -1, with nothing changed, when memory
    is short."""
    cdef void* fresh[DEPTH + 2]
    cdef Leaf* leaf
    cdef Py_ssize_t splits, level, slot
    if tree.root == NULL:
        leaf = <Leaf*>malloc(sizeof(Leaf))
        if leaf == NULL:
            return -1
        leaf.used = 0
        leaf.next = NULL
        leaf.previous = NULL
        tree.root = leaf
        tree.height = 0
        tree_walk(tree, hi, lo, path)
    splits = reserve_nodes(tree, path, fresh)
    if splits < 0:
        return -1
    for level in range(tree.height):
        forget_box(path.inner[level], path.child[level])
        path.inner[level].count[path.child[level]] += 1
        add(&path.inner[level].sum[path.child[level]], fingerprint)
    tree.count += 1
    add(&tree.sum, fingerprint)
    leaf = path.place.leaf
    slot = path.place.slot
    if splits:
        slot = split_leaf(tree, path, <Leaf*>fresh[0], &leaf)
    move_entries(leaf, slot + 1, leaf, slot, leaf.used - slot)
    leaf.hi[slot] = hi
    leaf.lo[slot] = lo
    leaf.size[slot] = size
    leaf.fingerprint[slot] = fingerprint[0]
    leaf.used += 1
    if splits:
        hang_in(tree, path, fresh)
    return 0


cdef inline Py_ssize_t reserve_nodes(
    const Tree* tree, const Path* path, void** fresh
) noexcept nogil:
    """Allocate what an insertion at `path` takes: a node for each full one, and maybe a root.

    `fresh` gets the nodes from the leaf upwards. Return the number of splits, -1 without memory.
    """
    cdef Py_ssize_t splits = 0, needed, i, level = tree.height - 1
    if path.place.leaf.used < tree.leaf_max:
        return 0
    splits = 1
    while level >= 0 and path.inner[level].used == tree.inner_max:
        splits += 1
        level -= 1
    needed = splits + (level < 0)  # the root splits: another above it
    for i in range(needed):
        fresh[i] = malloc(sizeof(Inner) if i else sizeof(Leaf))
        if fresh[i] == NULL:
            while i > 0:
                i -= 1
                free(fresh[i])
            return -1
    return splits


cdef inline Py_ssize_t split_leaf(
    const Tree* tree, const Path* path, Leaf* right, Leaf** chosen
) noexcept nogil:
    """Split the full leaf of `path`; `chosen` gets the half for the path's slot, the new slot."""
    cdef Leaf* left = path.place.leaf
    cdef Py_ssize_t slot = path.place.slot
    cdef Py_ssize_t half = tree.leaf_max // 2
    if left.next == NULL and slot == left.used:
        half = left.used
    right.used = left.used - half
    move_entries(right, 0, left, half, right.used)
    left.used = half
    right.next = left.next
    right.previous = left
    if right.next != NULL:
        right.next.previous = right
    left.next = right
    # A key that belongs exactly between the halves goes left, unless left is to stay full.
    if slot > half or half == tree.leaf_max:
        chosen[0] = right
        return slot - half
    chosen[0] = left
    return slot


cdef inline void hang_in(Tree* tree, Path* path, void** fresh) noexcept nogil:
    """Hang fresh[0], split from the leaf of `path`, into its parent, splitting full ones above.

    The counts and sums on the path already are those after the insertion.
    """
    cdef void* left = path.place.leaf
    cdef void* right = fresh[0]
    cdef uint64_t hi = (<Leaf*>right).hi[0]
    cdef uint32_t lo = (<Leaf*>right).lo[0]
    cdef Py_ssize_t level = tree.height - 1, made = 1, at, half
    cdef Inner* inner
    cdef Inner* more
    cdef bint is_leaf = True
    while level >= 0:
        inner = path.inner[level]
        at = path.child[level] + 1
        more = NULL
        if inner.used == tree.inner_max:
            more = <Inner*>fresh[made]
            made += 1
            half = tree.inner_max // 2
            if at == inner.used and is_last(path, level):
                half = inner.used - 1
            more.used = inner.used - half
            move_children(more, 0, inner, half, more.used)
            inner.used = half
        # A child that belongs exactly between the halves goes left.
        if more != NULL and at > half:
            put_child(more, at - half, right, is_leaf, hi, lo)
        else:
            put_child(inner, at, right, is_leaf, hi, lo)
        if more == NULL:
            return
        left = inner
        right = more
        hi = more.hi[0]
        lo = more.lo[0]
        is_leaf = False
        level -= 1
    inner = <Inner*>fresh[made]  # the root has been split
    inner.used = 1
    inner.hi[0] = 0
    inner.lo[0] = 0
    inner.child[0] = left
    inner.count[0] = tree.count
    inner.sum[0] = tree.sum
    put_child(inner, 1, right, is_leaf, hi, lo)
    tree.root = inner
    tree.height += 1


cdef inline bint is_last(const Path* path, Py_ssize_t level) noexcept nogil:
    """Whether the inner node of `path` at `level` is the last of its level."""
    cdef Py_ssize_t i
    for i in range(level):
        if path.child[i] != path.inner[i].used - 1:
            return False
    return True


cdef inline void put_child(
    Inner* inner, Py_ssize_t at, void* right, bint is_leaf, uint64_t hi, uint32_t lo
) noexcept nogil:
    """Put `right` in at `at`, after the child from which it was split."""
    move_children(inner, at + 1, inner, at, inner.used - at)
    inner.used += 1
    inner.hi[at] = hi
    inner.lo[at] = lo
    inner.child[at] = right
    share(inner, at - 1, is_leaf)


cdef inline void share(Inner* inner, Py_ssize_t at, bint is_leaf) noexcept nogil:
    """Divide what inner has noted for child `at` between it and the next one."""
    cdef uint64_t count = inner.count[at]
    cdef Sum total = inner.sum[at]
    add_up(inner.child[at + 1], is_leaf, &inner.count[at + 1], &inner.sum[at + 1])
    inner.count[at] = count - inner.count[at + 1]
    subtract(&total, &inner.sum[at + 1])
    inner.sum[at] = total
    forget_box(inner, at)
    forget_box(inner, at + 1)


cdef inline Sum tree_remove(Tree* tree, uint64_t hi, uint32_t lo) noexcept nogil:
    """Remove a key that is there and return its fingerprint.

    Nodes that fall below half join or share with a neighbour.
    """
    cdef Path path
    cdef Leaf* leaf
    cdef Sum gone
    cdef Py_ssize_t level, slot
    tree_walk(tree, hi, lo, &path)
    leaf = path.place.leaf
    slot = path.place.slot
    gone = leaf.fingerprint[slot]
    leaf.used -= 1
    move_entries(leaf, slot, leaf, slot + 1, leaf.used - slot)
    for level in range(tree.height):
        forget_box(path.inner[level], path.child[level])
        path.inner[level].count[path.child[level]] -= 1
        subtract(&path.inner[level].sum[path.child[level]], &gone)
    tree.count -= 1
    subtract(&tree.sum, &gone)
    for level in range(tree.height - 1, -1, -1):
        if not mend(tree, path.inner[level], path.child[level], level == tree.height - 1):
            break
    if tree.height and (<Inner*>tree.root).used == 1:
        path.inner[0] = <Inner*>tree.root
        tree.root = path.inner[0].child[0]
        tree.height -= 1
        free(path.inner[0])
    elif tree.count == 0:
        free(tree.root)
        tree.root = NULL
    return gone


cdef inline bint mend(
    const Tree* tree, Inner* inner, Py_ssize_t at, bint is_leaf
) noexcept nogil:
    """Bring child `at` back to half; return whether it did so by joining two children."""
    cdef Py_ssize_t most = tree.leaf_max if is_leaf else tree.inner_max
    cdef Py_ssize_t left_used, right_used
    if used_in(inner.child[at], is_leaf) >= most // 2:
        return False
    if at == inner.used - 1:
        at -= 1
    left_used = used_in(inner.child[at], is_leaf)
    right_used = used_in(inner.child[at + 1], is_leaf)
    if left_used + right_used <= most:
        join(inner, at, is_leaf)
        return True
    inner.count[at] += inner.count[at + 1]
    add(&inner.sum[at], &inner.sum[at + 1])
    if is_leaf:
        balance_leaves(inner, at, (left_used + right_used) // 2)
    else:
        balance_inners(inner, at, (left_used + right_used) // 2)
    share(inner, at, is_leaf)
    return False


cdef inline Py_ssize_t used_in(const void* node, bint is_leaf) noexcept nogil:
    return (<Leaf*>node).used if is_leaf else (<Inner*>node).used


cdef inline void join(Inner* inner, Py_ssize_t at, bint is_leaf) noexcept nogil:
    """Empty the child after child `at` into that one and free it."""
    cdef void* gone = inner.child[at + 1]
    cdef Leaf* leaf
    cdef Inner* left
    if is_leaf:
        leaf = <Leaf*>inner.child[at]
        move_entries(leaf, leaf.used, <Leaf*>gone, 0, (<Leaf*>gone).used)
        leaf.used += (<Leaf*>gone).used
        leaf.next = (<Leaf*>gone).next
        if leaf.next != NULL:
            leaf.next.previous = leaf
    else:
        left = <Inner*>inner.child[at]
        (<Inner*>gone).hi[0] = inner.hi[at + 1]
        (<Inner*>gone).lo[0] = inner.lo[at + 1]
        move_children(left, left.used, <Inner*>gone, 0, (<Inner*>gone).used)
        left.used += (<Inner*>gone).used
    inner.count[at] += inner.count[at + 1]
    add(&inner.sum[at], &inner.sum[at + 1])
    forget_box(inner, at)
    inner.used -= 1
    move_children(inner, at + 1, inner, at + 2, inner.used - at - 1)
    free(gone)


cdef inline void balance_leaves(Inner* inner, Py_ssize_t at, Py_ssize_t wanted) noexcept nogil:
    """Move entries between child `at` and the next until the first has `wanted`."""
    cdef Leaf* left = <Leaf*>inner.child[at]
    cdef Leaf* right = <Leaf*>inner.child[at + 1]
    cdef Py_ssize_t moved = left.used - wanted  # to the right
    if moved > 0:
        move_entries(right, moved, right, 0, right.used)
        move_entries(right, 0, left, wanted, moved)
    else:
        move_entries(left, left.used, right, 0, -moved)
        move_entries(right, 0, right, -moved, right.used + moved)
    left.used -= moved
    right.used += moved
    inner.hi[at + 1] = right.hi[0]
    inner.lo[at + 1] = right.lo[0]


cdef inline void balance_inners(Inner* inner, Py_ssize_t at, Py_ssize_t wanted) noexcept nogil:
    """Move children between child `at` and the next until the first has `wanted`."""
    cdef Inner* left = <Inner*>inner.child[at]
    cdef Inner* right = <Inner*>inner.child[at + 1]
    cdef Py_ssize_t moved = left.used - wanted  # to the right
    right.hi[0] = inner.hi[at + 1]
    right.lo[0] = inner.lo[at + 1]
    if moved > 0:
        move_children(right, moved, right, 0, right.used)
        move_children(right, 0, left, wanted, moved)
    else:
        move_children(left, left.used, right, 0, -moved)
        move_children(right, 0, right, -moved, right.used + moved)
    left.used -= moved
    right.used += moved
    inner.hi[at + 1] = right.hi[0]
    inner.lo[at + 1] = right.lo[0]


# -- all at once -------------------------------------------------------------------------------


cdef inline void tree_free(void* node, Py_ssize_t height) noexcept nogil:
    """Free a node and everything below it."""
    cdef Py_ssize_t i
    if node == NULL:
        return
    if height:
        for i in range((<Inner*>node).used):
            tree_free((<Inner*>node).child[i], height - 1)
    free(node)


cdef inline int tree_grow(Tree* tree, void** nodes, Py_ssize_t count) noexcept nogil:
    """Build the levels above `count` linked leaves. Return -1, all freed, when memory is short.

    `nodes` holds them and is overwritten. Children are dealt out evenly, so that each node is half full.
    """
    cdef Py_ssize_t height = 0, parents, done, i, j, at
    cdef Inner* inner
    while count > 1:
        parents = (count + tree.inner_max - 1) // tree.inner_max
        at = 0
        for i in range(parents):
            inner = <Inner*>malloc(sizeof(Inner))
            if inner == NULL:
                for j in range(i):
                    tree_free(nodes[j], height + 1)
                for j in range(at, count):
                    tree_free(nodes[j], height)
                return -1
            done = (count - at) // (parents - i)
            inner.used = done
            for j in range(done):
                inner.child[j] = nodes[at + j]
                first_key(nodes[at + j], height, &inner.hi[j], &inner.lo[j])
                add_up(nodes[at + j], height == 0, &inner.count[j], &inner.sum[j])
                forget_box(inner, j)
            nodes[i] = inner  # i <= at: read already
            at += done
        count = parents
        height += 1
    tree.root = nodes[0]
    tree.height = height
    add_up(tree.root, height == 0, &tree.count, &tree.sum)
    return 0


cdef inline void first_key(
    const void* node, Py_ssize_t height, uint64_t* hi, uint32_t* lo
) noexcept nogil:
    """Read a node's least key; that of an inner node built by `tree_grow` is its separator 0."""
    if height:
        hi[0] = (<Inner*>node).hi[0]
        lo[0] = (<Inner*>node).lo[0]
    else:
        hi[0] = (<Leaf*>node).hi[0]
        lo[0] = (<Leaf*>node).lo[0]
