"""The errors of phextsync. Each message says what was expected and what was found."""


class PhextsyncError(Exception):
    """Every error that this library raises on purpose."""


class CoordinateError(PhextsyncError, ValueError):
    """Not a valid coordinate or range."""


class PhextFileError(PhextsyncError, ValueError):
    """A .phext text that cannot be read: not UTF-8, or breaks beyond 999."""


class TextError(PhextsyncError, ValueError):
    """A text that a scroll cannot hold: a break character, a lone surrogate or a zero byte, with
    its offset; or an edit that makes a text larger than 32 MiB."""


class PositionError(PhextsyncError, ValueError):
    """A position that cannot be read, or one in a text that has not come here yet."""


class UpdateError(PhextsyncError, ValueError):
    """Bytes that are not an update of a text scroll."""


class ScrollError(PhextsyncError):
    """A scroll's document failed and has to be opened again from the store."""


class StoreError(PhextsyncError):
    """The data folder cannot be used as asked."""


class StoreLockedError(StoreError):
    """Another process owns the data folder."""


class StoreFullError(StoreError):
    """The disk refused a write; edits already made are kept in memory and tried again."""


class StoreDamagedError(StoreError):
    """Stored bytes fail their checksum; the message names the place."""


class StoreVersionError(StoreError):
    """The data folder was written by another version of the format."""


class NotSyncedError(PhextsyncError, TimeoutError):
    """Peers did not get onto their disks in time what they were to have.

    `lacks` has a line for each peer that lacks something, and says why.
    """

    def __init__(self, message: str, lacks: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lacks = lacks


class IdentityError(PhextsyncError):
    """A mesh key, join code, node key or certificate that cannot be used."""


class DirectoryError(PhextsyncError):
    """A bound directory, or a file of it, cannot be used as it is."""


class LinkError(PhextsyncError):
    """A connection to a peer failed or was ended; the message says why."""


class PermissionDeniedError(PhextsyncError, PermissionError):
    """This node's certificate does not allow the edit; the text is as it was."""


class NotHeldError(PhextsyncError):
    """This node does not hold the coordinate; the message says who does, as far as it is known."""


class ProtocolError(PhextsyncError):
    """A peer broke the protocol; its link ends with this reason."""


class ConflictError(PhextsyncError):
    """A scroll is no longer what it was when the caller saw it; nothing was changed."""


class OvertakenError(PhextsyncError):
    """A task is no longer for that claim, or never was; nothing was written."""


class NotFirmError(PhextsyncError, TimeoutError):
    """A majority of a task's voters did not vote for a claim in time; nothing was written."""


class ClosedError(PhextsyncError):
    """A handle was used after it was closed, or in the child of a fork."""


class AnswerLostError(PhextsyncError):
    """A change was made, once; its answer was lost with the process that made it."""
