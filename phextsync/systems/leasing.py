"""Leasing: whether some program may still write into a file. Linux alone has leases."""

import os
import sys

if sys.platform == "linux":
    import fcntl
    import signal

    def has_writers(descriptor: int) -> bool:
        """Whether some program may write into an open file that has no name any more; False where
        the system does not tell."""
        if os.fstat(descriptor).st_nlink:
            return False  # of a file that has a name, a lease would stop who opens it
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # which ends nobody
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:  # a lease to read is given where nobody may write
            return True
        except OSError:
            return False
        return False

else:

    def has_writers(descriptor: int) -> bool:
        """Whether some program may write into an open file that has no name any more; False where
        the system does not tell."""
        del descriptor
        return False
