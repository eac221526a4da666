"""Rights: who may read a file, and who this process is.

On Windows a file has the rights of the folder that it is in, which in a profile are those of its
user; modes mean nothing there but whether a file may be written.
"""

import os
import sys
from contextlib import suppress

if sys.platform == "win32":

    def set_mode(descriptor: int, mode: int) -> None:
        """Set the mode of an open file."""
        del descriptor, mode

    def give(descriptor: int, owner: tuple[int, int]) -> None:
        """Give an open file to a user and a group, if this process may."""
        del descriptor, owner

    def user() -> int | None:
        """Return the number of the user of this process; None where users have none."""
        return None

else:

    def set_mode(descriptor: int, mode: int) -> None:
        """Set the mode of an open file."""
        os.fchmod(descriptor, mode)

    def give(descriptor: int, owner: tuple[int, int]) -> None:
        """Give an open file to a user and a group, if this process may."""
        if owner != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):
                os.fchown(descriptor, *owner)

    def user() -> int | None:
        """Return the number of the user of this process; None where users have none."""
        return os.geteuid()
