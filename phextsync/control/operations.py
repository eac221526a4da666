"""All that can be asked of a node by other processes, in one table.

The socket, both handles, the command line and the tools for agents ask for nothing else; each
names an operation of this table, which says what it takes, the form of its answer, and how it is
served. What several take: `after` is the coordinate behind which a page begins, or empty; `seen`
is the `digest` of the text that the caller saw, or empty: ConflictError when the scroll has
another. Other errors are those of `Replica`.

`["as", label, operation, ...]` is an operation by a writer of that label, `["again", operation,
...]` one that lasts, which another owner served before: what that one knew is lost.
"""

from hashlib import blake2b
from typing import Final, cast

from phextsync.control import answers
from phextsync.control.frames import Value
from phextsync.control.kinds import (
    A_LABEL,
    A_NAME,
    A_NODE,
    A_NUMBER,
    A_TEXT,
    AFTER,
    AT,
    FLAG,
    HOW_MANY,
    LABEL,
    LAST,
    OFFSET,
    PHEXT,
    RANGE,
    ROWS,
    SEEN,
    Argument,
)
from phextsync.control.table import Asked as Asked
from phextsync.control.table import Operation as Operation
from phextsync.control.table import Serving as Serving

# -- reading -------------------------------------------------------------------------------

GET: Final = Operation("get", (PHEXT, AT), answers.OPTIONAL_TEXT, "the text, or null")
SIZE: Final = Operation("size", (PHEXT, AT), answers.NUMBER, "bytes of the text, 0 for none")
COUNT: Final = Operation("count", (PHEXT, RANGE), answers.NUMBER, "how many scrolls have text")
POSITION: Final = Operation(
    "position", (PHEXT, AT, OFFSET, FLAG), answers.TEXT, "the position of an offset"
)
OFFSET_OF: Final = Operation(
    "offset",
    (PHEXT, AT, Argument("a position", str)),
    answers.NUMBER,
    "the offset at which a position is now",
)
STEPS: Final = Operation(
    "steps", (PHEXT, AT), answers.STEPS, "whether the writer has a step to undo, and one to redo"
)
COORDINATES: Final = Operation(
    "coordinates", (PHEXT, RANGE, AFTER), answers.COORDINATES, "a page of coordinates"
)
LIST: Final = Operation(
    "list", (PHEXT, RANGE, AFTER), answers.LISTED, "a page of coordinates, bytes, first lines"
)
READ: Final = Operation(
    "read", (PHEXT, RANGE, AFTER), answers.SCROLLS, "a page of coordinates and texts"
)

NEAR: Final = Operation(
    "near",
    (PHEXT, RANGE, AT, HOW_MANY, FLAG),
    answers.NEAR,
    "the nearest scrolls of a range, and whether one at the coordinate counts",
)

# -- changing ------------------------------------------------------------------------------

SET: Final = Operation(
    "set",
    (PHEXT, AT, A_TEXT, Argument(SEEN.what, bytes, is_optional=True)),
    answers.NOTHING,
    "makes a text the scroll's by the smallest change",
    changes=True,
)
EDIT_FROM: Final = Operation(
    "edit_from",
    (PHEXT, AT, A_TEXT, A_TEXT),
    answers.NOTHING,
    "does what made the second text of the first, which the scroll had",
    changes=True,
)
REPLACE: Final = Operation(
    "replace",
    (PHEXT, AT, A_TEXT, A_TEXT, LAST),
    answers.NOTHING,
    "replaces what exactly stands there, so many times; null is all",
    changes=True,
)
APPEND: Final = Operation(
    "append",
    (PHEXT, AT, A_TEXT, Argument(SEEN.what, bytes, is_optional=True)),
    answers.NOTHING,
    "adds a text at the end",
    changes=True,
)
APPEND_LINE: Final = Operation(
    "append_line",
    (PHEXT, AT, A_TEXT),
    answers.TEXT,
    "adds lines at the end, behind an end for the last line if it has none; what was added",
    changes=True,
)
SPLICE: Final = Operation(
    "splice",
    (PHEXT, AT, OFFSET, OFFSET, A_TEXT, SEEN),
    answers.NOTHING,
    "puts a text in the place of the characters from start to stop",
    changes=True,
)
REMOVE: Final = Operation(
    "remove",
    (PHEXT, AT, Argument(SEEN.what, bytes, is_optional=True)),
    answers.YES,
    "empties a scroll; whether it had text",
    changes=True,
)
POP: Final = Operation(
    "pop", (PHEXT, AT), answers.OPTIONAL_TEXT, "the text that was removed, or null", changes=True
)
SETDEFAULT: Final = Operation(
    "setdefault", (PHEXT, AT, A_TEXT), answers.TEXT, "the text that is there now", changes=True
)
CLEAR: Final = Operation(
    "clear", (PHEXT, RANGE), answers.NOTHING, "empties a range: one commit, one event", changes=True
)
UNDO: Final = Operation(
    "undo", (PHEXT, AT), answers.YES, "whether the writer had a step to take back", changes=True
)
REDO: Final = Operation(
    "redo", (PHEXT, AT), answers.YES, "whether the writer had a step to do again", changes=True
)
IMPORT: Final = Operation(
    "import",
    (PHEXT, FLAG, ROWS),
    answers.NUMBER,
    "takes [coordinate, text] of many scrolls, or keeps what is there; how many were taken",
    changes=True,
)
BATCH: Final = Operation(
    "batch",
    (PHEXT, ROWS, Argument("whether peers hear of it only when it is on the disk", bool, True)),
    answers.NOTHING,
    "many changes, without their phext: one commit, one event; an error ends it where it happens",
    changes=True,
)

# -- the past ------------------------------------------------------------------------------

LOG: Final = Operation(
    "log", (PHEXT, AT, LAST), answers.LOG, "the last changes", serving=Serving.WAITS
)
BLAME: Final = Operation(
    "blame", (PHEXT, AT), answers.BLAME, "who wrote which line", serving=Serving.WAITS
)
SHOW: Final = Operation(
    "show",
    (PHEXT, AT, Argument("a time in milliseconds", int)),
    answers.TEXT,
    "the text of then",
    serving=Serving.WAITS,
)
VERSIONS: Final = Operation(
    "versions", (PHEXT, AT, LAST), answers.VERSIONS, "the last versions", serving=Serving.WAITS
)
DELETED: Final = Operation(
    "deleted",
    (PHEXT, AT),
    answers.TEXT,
    "the text before the scroll was last emptied",
    serving=Serving.WAITS,
)
UNDELETABLE: Final = Operation(
    "undeletable",
    (PHEXT, RANGE),
    answers.DELETED,
    "scrolls that can be brought back, and the rest of the range",
    serving=Serving.WAITS,
)
TAKING_BACK: Final = Operation(  # `taking_back` reads the answer further
    "taking_back",
    (PHEXT, RANGE, A_NODE, A_LABEL, LAST),
    answers.ANY,
    "what takes back what a writer did since a time, and the rest of the range",
    serving=Serving.WAITS,
)
TAKE_BACK: Final = Operation(
    "take_back", (PHEXT, AT, Argument("an update", bytes)), answers.NOTHING, "does it", changes=True
)
QUARANTINE: Final = Operation(
    "quarantine",
    (PHEXT, RANGE, A_NODE, A_LABEL, Argument("new, all or end", str)),
    answers.NOTHING,
    "lets wait what a writer adds from now on, or all that stands too; or ends that",
    changes=True,
)
QUARANTINED: Final = Operation(  # `quarantine` reads both answers further
    "quarantined",
    (PHEXT, Argument("true for those where that ended", bool, is_optional=True)),
    answers.ANY,
    "the ranges and writers of which it waits",
)
WAITING: Final = Operation(
    "waiting",
    (PHEXT, RANGE, A_NODE, A_LABEL),
    answers.ANY,
    "what of a writer was taken and waits, and what brings it back; the rest of the range",
    serving=Serving.WAITS,
)
HISTORY: Final = Operation("history", (), answers.SETTINGS, "how long history is kept")
KEEP_HISTORY: Final = Operation(
    "keep_history",
    (
        Argument("milliseconds or None", int | None),
        Argument(PHEXT.what, str, is_optional=True),
        Argument(RANGE.what, str, is_optional=True),
        Argument("whether only where nothing is set", bool, is_optional=True),
    ),
    answers.NOTHING,
    "sets how long history is kept, in the whole folder or in a range",
    serving=Serving.WAITS,
    changes=True,
)

HOLD: Final = Operation(
    "hold",
    (PHEXT, ROWS, Argument("a number of copies or None", int | None)),
    answers.NOTHING,
    "holds these ranges of a phext, and gives the others up as soon as enough others have them",
    changes=True,
    is_about_files=True,
)

FOLLOW: Final = Operation(
    "follow",
    (PHEXT,),
    answers.NOTHING,
    "holds what placement gives this node of a phext, and what it will give it later",
    changes=True,
)
PLACE: Final = Operation(
    "place",
    (PHEXT, LAST),
    answers.NOTHING,
    "lets so many members hold each range of a phext; null is all of them",
    changes=True,
)
PLACE_RANGE: Final = Operation(
    "place_range",
    (PHEXT, RANGE, FLAG, ROWS),
    answers.NOTHING,
    "lets all members hold a range, or these by their names besides others; neither ends a rule",
    changes=True,
)
PACE: Final = Operation(
    "pace",
    (PHEXT, LAST, LAST),
    answers.NOTHING,
    "after so many seconds of silence others hold what a member held; bytes a second it takes",
    changes=True,
)
RETIRE: Final = Operation(
    "retire",
    (Argument("the name of a member", str),),
    answers.NOTHING,
    "lets it have left",
    changes=True,
)
WHERE: Final = Operation(
    "where",
    (PHEXT, RANGE),
    answers.PLACED,
    "the ranges, and who holds each by what was placed",
    serving=Serving.WAITS,
)

# -- the node ------------------------------------------------------------------------------

STATUS: Final = Operation("status", (), answers.STATUS, "how the node is, as JSON")
RELOAD: Final = Operation("reload", (), answers.NOTHING, "reads again who belongs to the mesh")
PHEXTS: Final = Operation("phexts", (), answers.TEXTS, "the names of the phexts")
LACKING: Final = Operation(
    "lacking", (PHEXT, RANGE), answers.LACKS, "which connected peers lack something"
)
PRESENCE: Final = Operation("presence", (), answers.PRESENCE, "what the other nodes tell")
TOLD_HERE: Final = Operation(
    "told-here", (), answers.FACTS, "what this node and the processes at it tell"
)
DURABLE: Final = Operation(
    "durable", (), answers.NOTHING, "waits until all is on the disk", serving=Serving.WAITS
)
SYNCED: Final = Operation(
    "synced",
    (
        PHEXT,
        RANGE,
        Argument("a number of peers or None", int | None),
        Argument("seconds or None", int | float | None, is_optional=True),
    ),
    answers.NOTHING,
    "waits until peers have a range on their disks",
    serving=Serving.WAITS,
)
SEARCH: Final = Operation(
    "search",
    (PHEXT, RANGE, Argument("words", str), HOW_MANY),
    answers.FOUND,
    "the best scrolls that have all the words",
    serving=Serving.WAITS,
)

# -- what lasts ----------------------------------------------------------------------------

WATCH: Final = Operation(
    "watch",
    (PHEXT, RANGE, FLAG),
    answers.NOTHING,
    "`next` with its number gives the changes from now on, with texts if they are asked for",
    serving=Serving.LASTS,
)
NEXT: Final = Operation(
    "next",
    (Argument("the number of a watch", int),),
    answers.CHANGE,
    "the next change; null when that watch has ended",
    serving=Serving.WAITS,
)
TRACK: Final = Operation(
    "track",
    (PHEXT, AT, LABEL),
    answers.NOTHING,
    "the steps of that writer can be undone from now on",
    serving=Serving.LASTS,
)
TELL: Final = Operation(
    "tell",
    (ROWS,),
    answers.NOTHING,
    "this process tells the other nodes these facts, in place of those before",
    serving=Serving.LASTS,
)

# -- bound directories: `files.desk` reads the answers further -----------------------------

FIND: Final = Operation(
    "find",
    (A_NAME, A_NAME),
    answers.ANY,
    "the bound file of a name and a whole path",
    is_about_files=True,
)
FIND_RANGE: Final = Operation(
    "find_range",
    (A_NAME, A_NAME),
    answers.ANY,
    "the range of a bound directory, a folder in it, or a file",
    is_about_files=True,
)
NAME_FILE: Final = Operation(
    "name_file",
    (A_NAME, A_NAME),
    answers.ANY,
    "as `find`; the file gets a scroll if it has none",
    changes=True,
    is_about_files=True,
)
NAMES: Final = Operation(
    "names",
    (PHEXT, ROWS),
    answers.ANY,
    "the whole path of the file of each coordinate, or null",
    is_about_files=True,
)
CONFLICTS: Final = Operation(
    "conflicts",
    (Argument("a phext or None", str | None), AFTER),
    answers.ANY,
    "the conflicts that nobody settled, of all files, a phext or a scroll, the oldest first",
    is_about_files=True,
)
SETTLE_CONFLICT: Final = Operation(
    "settle_conflict",
    (A_NUMBER, Argument("mine, theirs or text", str), A_TEXT),
    answers.ANY,
    "puts the lines of one side, or a text, in the place of what was merged: its scroll",
    changes=True,
    is_about_files=True,
)
FORGET_CONFLICT: Final = Operation(
    "forget_conflict",
    (A_NUMBER,),
    answers.NOTHING,
    "forgets a conflict; the file stays as it is",
    changes=True,
    is_about_files=True,
)

# What their answers are does not matter here.
OPERATIONS: Final = cast(
    "dict[str, Operation[object]]",
    {value.name: value for value in tuple(globals().values()) if isinstance(value, Operation)},
)


def operation_of(request: list[Value]) -> Operation[object] | None:
    """Return what is asked for, no matter by whom; None when there is no such operation."""
    match request:
        case [str(name), *_] if name in OPERATIONS:  # as nearly always
            return OPERATIONS[name]
        case ["as", _, str(name), *_] | ["again", str(name), *_]:
            return OPERATIONS.get(name)
        case _:
            return None


def is_change(request: list[Value]) -> bool:
    """Whether the operation writes, so that its answer has to wait for the disk."""
    operation = operation_of(request)
    return operation is not None and operation.changes


def is_about_files(request: list[Value]) -> bool:
    """Whether the request is one for `Directories`."""
    operation = operation_of(request)
    return operation is not None and operation.is_about_files


def lasts(request: list[Value]) -> bool:
    """Whether what the operation begins lasts until it is dropped: see `Session.begin`."""
    operation = operation_of(request)
    return operation is not None and operation.serving is Serving.LASTS


def takes_time(request: list[Value]) -> bool:
    """Whether the operation waits, so that others are answered before it: see `Session.wait`."""
    operation = operation_of(request)
    return operation is not None and operation.serving is Serving.WAITS


def may_be_long(request: list[Value]) -> bool:
    """Whether the answer to a request that waits may take much memory once it is made."""
    operation = operation_of(request)
    return operation is not None and operation not in (DURABLE, SYNCED, KEEP_HISTORY, NEXT)


def check_phext(request: list[Value]) -> None:
    """PhextsyncError when the request is about a phext that belongs to the library or a gateway."""
    operation = operation_of(request)
    if operation is not None:
        operation.check_phext(request[{"as": 3, "again": 2}.get(str(request[0]), 1) :])


def unsigned(request: list[Value]) -> list[Value]:
    """Return a request without the label of its writer."""
    return request[2:] if request[0] == "as" else request


def digest(text: str) -> bytes:
    """Return what `seen` is for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
