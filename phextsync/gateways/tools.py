"""Tools: what a language model may ask for, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from phextsync.control.operations import OPERATIONS, Operation
from phextsync.errors import PhextsyncError
from phextsync.node.node import DEFAULT_PHEXT

PAGE_ROWS: Final = 100
"""Rows in one answer."""

PAGE_CHARACTERS: Final = 16_000
"""Text in one answer: about 4,000 tokens."""

_INTEGER_MAX: Final = (1 << 53) - 1  # which every client can say

Argument: TypeAlias = str | int | bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a tool. One without a default is a text that has to be given."""

    name: str
    description: str
    default: Argument | None = None

    @property
    def kind(self) -> type:
        return str if self.default is None else type(self.default)

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of the argument."""
        schema: dict[str, object] = {
            "type": _SCHEMA_TYPES[self.kind],
            "description": self.description,
        }
        if self.default is not None:
            schema["default"] = self.default
        return schema


_SCHEMA_TYPES: Final = {str: "string", int: "integer", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Tool:
    """What can be asked for."""

    name: str
    description: str
    operation: Operation[object] | None
    """What it asks of the node in the end; None for what the agent notes itself."""
    parameters: tuple[Parameter, ...] = ()
    replaces: bool = False
    """Whether text may be gone afterwards."""

    @property
    def writes(self) -> bool:
        """Whether it changes scrolls."""
        return self.operation is not None and self.operation.changes

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of the arguments."""
        return {
            "type": "object",
            "properties": {item.name: item.schema() for item in self.parameters},
            "required": [item.name for item in self.parameters if item.default is None],
            "additionalProperties": False,
        }

    def arguments(self, given: Mapping[str, object]) -> list[Argument]:
        """Return the arguments in order, defaults filled in for what is left out or null, and whole
        floats as integers. PhextsyncError names what is wrong."""
        taken = ", ".join(item.name for item in self.parameters) or "no arguments"
        for name in given:
            if all(name != item.name for item in self.parameters):
                raise PhextsyncError(f"{self.name} has no argument {name!r:.40}; it takes {taken}")
        return [self._argument(item, given, taken) for item in self.parameters]

    def _argument(self, item: Parameter, given: Mapping[str, object], taken: str) -> Argument:
        value = given.get(item.name)
        if value is None:
            value = item.default
        if value is None:
            raise PhextsyncError(f"{self.name} needs {item.name!r}; it takes {taken}")
        if item.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if item.kind is int and isinstance(value, int) and abs(value) > _INTEGER_MAX:
            raise PhextsyncError(f"{self.name}: {item.name!r} has to be below 2**53, found more")
        if isinstance(value, str | int) and type(value) is item.kind:
            return value
        wanted = {str: "a string", int: "an integer", bool: "true or false"}[item.kind]
        raise PhextsyncError(f"{self.name}: {item.name!r} has to be {wanted}, not {value!r:.40}")


_COORDINATE: Final = Parameter(
    "coordinate",
    "Nine numbers from 1 to 999: 1.5.2/3.7.3/9.1.1; or a bound file, by its path.",
)
_PHEXT: Final = Parameter("phext", "Name of the collection of scrolls.", DEFAULT_PHEXT)
_BOX: Final = Parameter("box", "Your box; empty for the one with this node's name.", "")
_MESSAGE: Final = Parameter("coordinate", "Where the message stands, as mail_inbox lists it.")
_TASK: Final = Parameter("coordinate", "Where the task stands, as task_list shows it.")
_CLAIM: Final = Parameter("claim", "Your claim, as task_claim gave it.")
_RANGE: Final = Parameter(
    "range", "A prefix such as 2.* or 2.1.1/3.*; LOWER..UPPER; * is everything.", "*"
)

TOOLS: Final = {
    tool.name: tool
    for tool in (
        Tool(
            "read",
            "Read a scroll. Long ones come in pages: the answer names the next offset.",
            OPERATIONS["get"],
            (_COORDINATE, _PHEXT, Parameter("offset", "First character to read.", 0)),
        ),
        Tool(
            "write",
            "Make TEXT the whole text of a scroll. Read all of it first; what others write"
            " meanwhile is kept. Empty text deletes what you read. To add or change a part, use"
            " append or replace.",
            OPERATIONS["edit_from"],
            (
                _COORDINATE,
                Parameter("text", "The whole new text."),
                _PHEXT,
                Parameter("read", "The value of READ that the answer of read named, if any.", ""),
            ),
            replaces=True,
        ),
        Tool(
            "append",
            "Add TEXT as new lines at the end of a scroll, which is made if it does not exist.",
            OPERATIONS["append"],
            (_COORDINATE, Parameter("text", "What to add."), _PHEXT),
        ),
        Tool(
            "replace",
            "Replace exact text in a scroll. OLD has to stand in it exactly once.",
            OPERATIONS["replace"],
            (
                _COORDINATE,
                Parameter("old", "Exact text to replace, line breaks included."),
                Parameter("new", "What to put there; empty deletes OLD."),
                _PHEXT,
                Parameter("all", "Replace OLD wherever it stands.", False),
            ),
            replaces=True,
        ),
        Tool(
            "list",
            f"List scrolls: coordinate, bytes, first line. At most {PAGE_ROWS} in one answer,"
            " which names the value of AFTER for the next ones.",
            OPERATIONS["coordinates"],
            (_RANGE, _PHEXT, Parameter("after", "Begin behind this coordinate.", "")),
        ),
        Tool(
            "search",
            "Find scrolls that have all the words; the best come first.",
            OPERATIONS["search"],
            (
                Parameter(
                    "words", 'Words; "a phrase" in quotation marks; wor* for beginnings; | for or.'
                ),
                _RANGE,
                _PHEXT,
                Parameter("limit", f"Results at most, up to {PAGE_ROWS}.", 10),
            ),
        ),
        Tool(
            "near",
            "List the scrolls nearest to a coordinate: distance, coordinate, first line. The"
            " distance is what the nine numbers differ by in all.",
            OPERATIONS["near"],
            (
                _COORDINATE,
                _RANGE,
                _PHEXT,
                Parameter("limit", f"Results at most, up to {PAGE_ROWS}.", 40),
            ),
        ),
        Tool(
            "changes",
            "What was changed lately, and by whom. The answer names SINCE for the next call.",
            None,
            (Parameter("since", "Only what came after this number.", 0), _PHEXT),
        ),
        Tool(
            "mail_send",
            "Send a message to another agent or machine. It comes when that one is on again.",
            OPERATIONS["batch"],
            (
                Parameter("to", "A box, role:ROLE, or all."),
                Parameter("text", "What to say."),
                _BOX,
                Parameter("expires", "Seconds after which nobody gets it; 0 for never.", 0),
            ),
        ),
        Tool(
            "mail_inbox",
            "List the messages to you that are not acknowledged: where each stands, when it was"
            " sent, by whom, its first line.",
            OPERATIONS["read"],
            (_BOX,),
        ),
        Tool("mail_read", "Read a message.", OPERATIONS["get"], (_MESSAGE,)),
        Tool(
            "mail_ack",
            "Acknowledge a message that you have dealt with: it is not listed again.",
            OPERATIONS["batch"],
            (_MESSAGE, _BOX),
            replaces=True,
        ),
        Tool(
            "task_add",
            "Add a task that one and only one is to do.",
            OPERATIONS["set"],
            (Parameter("text", "What there is to do."),),
        ),
        Tool(
            "task_list",
            "List the tasks that are not done: where each stands, how, by whom, its first line.",
            OPERATIONS["read"],
        ),
        Tool("task_read", "Read a task.", OPERATIONS["get"], (_TASK,)),
        Tool(
            "task_claim",
            "Claim a task. Do it only if the answer says that it is firm: it is yours alone then.",
            OPERATIONS["append_line"],
            (_TASK, Parameter("worker", "Your name; empty for that of this node.", "")),
        ),
        Tool(
            "task_keep",
            "Say that you are still at work on a task; without it another gets it after its term.",
            OPERATIONS["append_line"],
            (_TASK, _CLAIM),
        ),
        Tool(
            "task_done",
            "Say that a task is done, and what came of it.",
            OPERATIONS["append_line"],
            (_TASK, _CLAIM, Parameter("result", "What came of it.", "")),
        ),
        Tool(
            "task_fail",
            "Say that you could not do a task. Nobody gets it until task_retry.",
            OPERATIONS["append_line"],
            (_TASK, _CLAIM, Parameter("why", "Why.", "")),
        ),
        Tool(
            "task_retry",
            "Let a task that failed be claimed again.",
            OPERATIONS["append_line"],
            (_TASK,),
        ),
        Tool(
            "quarantine",
            "Let wait what one writer puts in, for example since it was deceived, until somebody"
            " accepts it.",
            OPERATIONS["quarantine"],
            (Parameter("writer", "NODE/WRITER, as blame shows it."), _RANGE, _PHEXT),
            replaces=True,
        ),
        Tool(
            "quarantine_list",
            "List what waits to be accepted: where, how many characters, the first line.",
            OPERATIONS["waiting"],
            (_PHEXT,),
        ),
        Tool(
            "quarantine_accept",
            "Bring back what waits in a range. Only for one whose own work does not wait.",
            OPERATIONS["take_back"],
            (Parameter("range", "A coordinate or a range, as quarantine_list shows it."), _PHEXT),
        ),
        Tool(
            "peers",
            "The other machines: which are connected, and what they do not have yet.",
            OPERATIONS["status"],
        ),
    )
}
