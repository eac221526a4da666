"""What Hypothesis draws from: coordinates that often meet, ranges, texts of many scripts."""

from hypothesis import strategies as st

from phextsync.index import Coordinate, CoordinateRange
from phextsync.texts import BREAKS

_PARTS = st.one_of(st.integers(1, 3), st.sampled_from([998, 999]), st.integers(1, 999))

coordinates = st.builds(Coordinate, *[_PARTS] * 9)
near_coordinates = st.builds(Coordinate, *[st.just(1)] * 7, st.integers(1, 3), st.integers(1, 9))


@st.composite
def ranges(draw: st.DrawFn, of: st.SearchStrategy[Coordinate] = coordinates) -> CoordinateRange:
    """Ranges whose bounds are drawn from `of`, some without one bound or both."""
    lower, upper = draw(st.none() | of), draw(st.none() | of)
    if lower is not None and upper is not None and upper <= lower:
        lower, upper = upper, lower
    if lower == upper:
        upper = None
    if upper is not None and lower is None and upper == Coordinate(*[1] * 9):
        upper = None
    return CoordinateRange(lower, upper)


characters = st.one_of(
    st.sampled_from("ab \n\r\u00e9e\u0301\u05d0\u4e2d\U0001f600\u200d\U0001f469"),
    st.characters(exclude_categories=["Cs"], exclude_characters=f"\0{BREAKS}"),
)
texts = st.text(characters, max_size=30)
lines = st.lists(st.sampled_from(["alpha\n", "beta\n", "gamma beta\n", "\n", "delta"]), max_size=8)
documents = st.one_of(texts, lines.map("".join))
