"""Alignment: which pieces of two sequences are equal, in order. Pure functions, bounded work."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

# (a, b, c, d): ours[a:b] became theirs[c:d].
Block: TypeAlias = tuple[int, int, int, int]

# A comparison may take this many steps, and one more for this many characters, ...
_STEPS_MIN: Final = 1 << 16
_CHARACTERS_A_STEP: Final = 4
# ... and this many of them for pieces between two equal ones. Then they count as unlike.
_STEPS_MAX: Final = 1 << 14
_PAIRS_MAX: Final = 1 << 8


class Work:
    """How many steps a comparison may take, counted, so that its result is always the same."""

    __slots__ = ("left",)

    def __init__(self, characters: int) -> None:
        self.left = _STEPS_MIN + characters // _CHARACTERS_A_STEP

    def take(self, steps: int) -> bool:
        """Take `steps` steps; False when fewer are left."""
        if steps > self.left:
            return False
        self.left -= steps
        return True


def changed_blocks(ours: Sequence[str], theirs: Sequence[str], work: Work) -> list[Block]:
    """Return ascending blocks of what differs; what lies between them is equal.

    Pieces that are unique on both sides, in the longest run that has one order, hold the two
    together (B. Cohen, patience diff); what lies between them is compared while there is work.
    """
    blocks: list[Block] = []
    a = c = 0
    for i, k in [*_anchors(ours, theirs), (len(ours), len(theirs))]:
        b, d = i, k
        while a < b and c < d and ours[a] == theirs[c]:
            a, c = a + 1, c + 1
        while a < b and c < d and ours[b - 1] == theirs[d - 1]:
            b, d = b - 1, d - 1
        if a < b and c < d:
            blocks += [
                (a + w, a + x, c + y, c + z)
                for w, x, y, z in shortest_script(ours[a:b], theirs[c:d], work)
            ]
        elif a < b or c < d:
            blocks.append((a, b, c, d))
        a, c = i + 1, k + 1
    return blocks


def shortest_script(ours: Sequence[str], theirs: Sequence[str], work: Work) -> list[Block]:
    """Return the fewest changes that make `theirs` of `ours` (E. Myers, "An O(ND) difference
    algorithm", 1986); one block with everything when that would take too many steps."""
    if set(ours).isdisjoint(theirs):  # as nearly always where a word or a line became another
        return [(0, len(ours), 0, len(theirs))] if ours or theirs else []
    numbers: dict[str, int] = {}
    a, b = ([numbers.setdefault(piece, len(numbers)) for piece in side] for side in (ours, theirs))
    middle = len(a) + len(b) + 1
    # reach[middle + k]: how far into `a` the changes so far lead on the diagonal x - y == k.
    reach = [0] * (2 * middle + 1)
    before: list[list[int]] = []  # of each number of changes, what was reached with one fewer
    steps_left = _STEPS_MAX
    for count in range(middle):
        before.append(reach[middle - count - 1 : middle + count + 2])
        steps = count + 1
        for k in range(-count, count + 1, 2):
            is_insertion = _is_insertion(before[count], count, k)
            start = x = reach[middle + k + 1] if is_insertion else reach[middle + k - 1] + 1
            while x < len(a) and x - k < len(b) and a[x] == b[x - k]:
                x += 1
            steps += x - start
            reach[middle + k] = x
            if x >= len(a) and x - k >= len(b):
                return _script(before, len(a), len(b))
        steps_left -= steps
        if steps_left < 0 or not work.take(steps):
            break
    return [(0, len(a), 0, len(b))]


def _is_insertion(before: list[int], count: int, k: int) -> bool:
    """Whether diagonal `k` is entered by an insertion, from the one above, as the last change."""
    middle = count + 1
    return k == -count or (k != count and before[middle + k - 1] < before[middle + k + 1])


def _script(before: list[list[int]], x: int, y: int) -> list[Block]:
    """Go back from the end over what was reached, and return the changes on the way."""
    blocks: list[Block] = []
    for count in range(len(before) - 1, 0, -1):
        reach, middle, k = before[count], count + 1, x - y
        is_insertion = _is_insertion(reach, count, k)
        k += 1 if is_insertion else -1
        x = reach[middle + k]
        y = x - k
        a, b, c, d = (x, x, y, y + 1) if is_insertion else (x, x + 1, y, y)
        if blocks and blocks[-1][0] == b and blocks[-1][2] == d:
            _, b, _, d = blocks.pop()
        blocks.append((a, b, c, d))
    return blocks[::-1]


def pairs(ours: Sequence[str], theirs: Sequence[str], work: Work) -> list[tuple[int, int]]:
    """Return ascending pairs of lines that together have most in common at their ends. Of many
    lines the first are paired, the second, and so on."""
    cells = len(ours) * len(theirs)
    if cells > _PAIRS_MAX or not work.take(cells):
        return [(i, i) for i in range(min(len(ours), len(theirs)))]
    # best[i][k]: how much the pairs of the lines from `i` and from `k` on share at most.
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    shared = [[shared_ends(line, other) for other in theirs] for line in ours]
    for i in reversed(range(len(ours))):
        for k in reversed(range(len(theirs))):
            pair = shared[i][k] + best[i + 1][k + 1]
            best[i][k] = max(pair, best[i + 1][k], best[i][k + 1])
    found = []
    i = k = 0
    while i < len(ours) and k < len(theirs):
        if best[i][k] == shared[i][k] + best[i + 1][k + 1]:
            found.append((i, k))
            i, k = i + 1, k + 1
        elif best[i][k] == best[i + 1][k]:
            i += 1
        else:
            k += 1
    return found


def shared_ends(line: str, other: str) -> int:
    """Return how many characters two lines share at their ends."""
    if line[:1] != other[:1] and line[-1:] != other[-1:]:
        return 0
    return sum(common_ends(line, other))


def common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters are equal at the start, and of the rest at the end."""
    limit = min(len(old), len(new))
    start = stop = 0
    if old[:1] == new[:1]:
        start = _longest(limit, lambda n: old[:n] == new[:n])
    if old[-1:] == new[-1:]:
        limit -= start
        stop = _longest(limit, lambda n: old[len(old) - n :] == new[len(new) - n :])
    return start, stop


def _longest(limit: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number up to `limit` for which `holds`, true up to some number."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _anchors(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Return the longest ascending sequence of lines that occur once on each side."""
    places = _unique(theirs)
    pairs = [(i, places[line]) for line, i in _unique(ours).items() if line in places]
    piles: list[int] = []  # the pair on top of each pile, by its second number
    before: list[int] = []
    for number, (_, k) in enumerate(pairs):
        low, high = 0, len(piles)
        while low < high:
            middle = (low + high) // 2
            if pairs[piles[middle]][1] < k:
                low = middle + 1
            else:
                high = middle
        before.append(piles[low - 1] if low else -1)
        piles[low : low + 1] = [number]
    chain: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _unique(lines: Sequence[str]) -> dict[str, int]:
    """Return the lines that occur once, in order, with their places."""
    places: dict[str, int] = {}
    for i, line in enumerate(lines):
        places[line] = -1 if line in places else i
    return {line: i for line, i in places.items() if i >= 0}
