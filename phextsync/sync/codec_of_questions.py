"""The codec of questions: how what a peer is asked to be shown is written and read."""

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.sync.fields import KEY_BYTES, Fields, ranges_written
from phextsync.sync.messages import (
    DIGEST_BYTES,
    FINGERPRINT_BYTES,
    Ask,
    Changed,
    Fetch,
    Fetched,
    FetchMode,
    Survey,
    Surveyed,
    SurveyedScroll,
    Told,
    Verdict,
    Watch,
)


def write_fetch(fetch: Fetch) -> list[object]:
    return [fetch.number, fetch.phext, fetch.coordinate.key, int(fetch.mode), fetch.digest]


def read_fetch(fields: Fields) -> Fetch:
    return Fetch(
        fields.integer(),
        fields.phext(),
        fields.coordinate(),
        FetchMode(fields.integer(len(FetchMode))),
        fields.octets(DIGEST_BYTES),
    )


def write_fetched(fetched: Fetched) -> list[object]:
    said = [fetched.number, int(fetched.verdict), int(fetched.is_subscribed), fetched.fingerprint]
    return [*said, fetched.index, fetched.total, fetched.piece]


def read_fetched(fields: Fields) -> Fetched:
    limits = fields.limits
    parts_max = 2 * limits.scroll_bytes_max // limits.frame_bytes_max + 1
    return Fetched(
        fields.integer(),
        Verdict(fields.integer(len(Verdict))),
        bool(fields.integer(2)),
        fields.octets(FINGERPRINT_BYTES),
        fields.integer(parts_max),
        fields.integer(parts_max),
        fields.octets(limits.frame_bytes_max),
    )


def write_survey(survey: Survey) -> list[object]:
    asked = [survey.number, survey.phext, ranges_written((survey.range,))]
    return [*asked, int(survey.with_texts)]


def read_survey(fields: Fields) -> Survey:
    return Survey(*_read_survey_of(fields), bool(fields.integer(2)))


def _read_survey_of(fields: Fields) -> tuple[int, str, CoordinateRange]:
    number, phext, ranges = fields.integer(), fields.phext(), fields.ranges()
    if len(ranges) != 1:
        raise ProtocolError(f"expected one range, found {len(ranges)}")
    return number, phext, ranges[0]


def write_surveyed(surveyed: Surveyed) -> list[object]:
    rows = list(map(_row_written, surveyed.scrolls))
    rest = b"" if surveyed.rest is None else surveyed.rest.key
    return [surveyed.number, int(surveyed.verdict), rest, rows]


def read_surveyed(fields: Fields) -> Surveyed:
    return Surveyed(
        fields.integer(),
        Verdict(fields.integer(len(Verdict))),
        fields.upper(),
        tuple(map(_read_row, fields.arrays(fields.limits.surveyed_max))),
    )


def _row_written(row: SurveyedScroll) -> list[object]:
    told = [row.coordinate.key, row.size, row.digest, row.line]
    return told if row.text is None else [*told, row.text.encode(), row.version]


def _read_row(fields: Fields) -> SurveyedScroll:
    at, size = fields.coordinate(), fields.integer(1 << 32)
    row = SurveyedScroll(at, size, fields.octets(DIGEST_BYTES, DIGEST_BYTES), fields.text())
    if fields.left:
        text = fields.octets(fields.limits.frame_bytes_max)
        try:
            row = row._replace(text=text.decode())
        except UnicodeDecodeError as error:
            raise ProtocolError(
                f"expected the text of {at} in UTF-8, found {text!r:.40}"
            ) from error
        row = row._replace(version=fields.octets(fields.limits.version_bytes_max))
    fields.end()
    return row


def write_ask(ask: Ask) -> list[object]:
    return [ask.number, ask.phext, ranges_written((ask.range,)), ask.words]


def read_ask(fields: Fields) -> Ask:
    survey = _read_survey_of(fields)
    return Ask(*survey, fields.octets(fields.limits.asked_bytes_max))


def write_told(told: Told) -> list[object]:
    return [told.number, int(told.verdict), told.index, told.total, told.piece]


def read_told(fields: Fields) -> Told:
    limits = fields.limits
    parts_max = 2 * limits.told_bytes_max // limits.frame_bytes_max + 1
    return Told(
        fields.integer(),
        Verdict(fields.integer(len(Verdict))),
        fields.integer(parts_max),
        fields.integer(parts_max + 1),
        fields.octets(limits.frame_bytes_max),
    )


def write_watch(watch: Watch) -> list[object]:
    return [watch.number, watch.phext, ranges_written(watch.ranges)]


def read_watch(fields: Fields) -> Watch:
    number, phext, ranges = fields.integer(), fields.phext(), fields.ranges()
    if len(ranges) > 1:
        raise ProtocolError(f"expected one range at most, found {len(ranges)}")
    return Watch(number, phext, ranges)


def write_changed(changed: Changed) -> list[object]:
    keys = b"".join(coordinate.key for coordinate in changed.coordinates)
    return [changed.number, int(changed.verdict), int(changed.are_missed), keys]


def read_changed(fields: Fields) -> Changed:
    number, verdict = fields.integer(), Verdict(fields.integer(len(Verdict)))
    are_missed = bool(fields.integer(2))
    keys = fields.octets(KEY_BYTES * fields.limits.changed_max)
    if len(keys) % KEY_BYTES:
        raise ProtocolError(f"expected keys of {KEY_BYTES} bytes, found {len(keys)} bytes")
    try:
        places = tuple(
            Coordinate.from_key(keys[at : at + KEY_BYTES]) for at in range(0, len(keys), KEY_BYTES)
        )
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    return Changed(number, verdict, are_missed, places)
