# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbered frames on a socket to which several threads write.

To send the next frame, to count it and to note what it was for is one step here, in which no other
Python code runs: no thread, signal handler or finalizer comes in between. A lock cannot do that: a
handler that runs while its thread holds it could wait for an answer that nobody can deliver.
"""

cimport cython
from libc.stdint cimport uint64_t

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.set cimport PySet_GET_SIZE

cdef extern from *:
    """
    #ifdef _WIN32
    static Py_ssize_t send_now(int descriptor, const char *data, size_t size) { return -1; }
    #else
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static Py_ssize_t send_now(int descriptor, const char *data, size_t size) {
        return send(descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    #endif
    """
    Py_ssize_t send_now(int descriptor, const char* data, size_t size)


@cython.final
cdef class NumberedSender:
    """Sends frames whose numbers ascend by one, while it is open and `before`, in which others keep
    what is to go before them, is empty."""

    cdef readonly uint64_t number  # of the last
    cdef readonly bytes rest
    cdef set _before
    cdef int _descriptor

    def __init__(self, set before not None):
        self.number = 0
        self.rest = b""
        self._before = before
        self._descriptor = -1

    @property
    def is_open(self):
        """Whether it may send."""
        return self._descriptor >= 0

    def open(self, int descriptor):
        """Send on a socket from now on. On Windows nothing goes."""
        self._descriptor = descriptor

    def close(self):
        """Send nothing any more; return the rest of the last frame, if it went in part."""
        rest, self.rest, self._descriptor = self.rest, b"", -1
        return rest

    def count(self, dict noted not None, object what):
        """Return the next number, of a frame that goes another way, and note what it is for. Only
        while none may go this way."""
        noted[self.number + 1] = what
        self.number += 1
        return self.number

    def send(self, uint64_t number, bytes frame not None, dict noted not None, object what):
        """Send what is the next, note under its number what it is for, and say whether that was
        done. Of a frame that goes in part, the rest is left, and no other goes."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        cdef Py_ssize_t sent
        if self._descriptor < 0 or number != self.number + 1 or PySet_GET_SIZE(self._before):
            return False
        noted[number] = what
        sent = send_now(self._descriptor, PyBytes_AS_STRING(frame), size)
        if sent <= 0:
            del noted[number]
            return False
        self.number = number
        if sent < size:
            self.rest = frame[sent:]
            self._descriptor = -1
        return True
