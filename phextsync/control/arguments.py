"""Arguments: whether what a caller passes is of the types that operations take."""

from phextsync.control.frames import Value
from phextsync.control.kinds import A_TEXT
from phextsync.control.operations import OPERATIONS, unsigned


def check_arguments(request: list[Value]) -> None:
    """TypeError when an argument is of another type than its operation takes: where the caller
    is, who passed it. Coordinates and ranges are texts by then."""
    name, *arguments = unsigned(request)
    operation = OPERATIONS.get(str(name))
    if operation is not None:
        operation.check(arguments)
    match request:
        case ["import", _, _, list(scrolls)]:
            for scroll in scrolls:
                match scroll:
                    case [_, text]:
                        A_TEXT.check(text)
        case ["batch", phext, list(changes), *_]:
            for change in changes:
                match change:
                    case [inner, *rest]:
                        check_arguments([inner, phext, *rest])
