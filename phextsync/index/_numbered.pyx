# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Frames on a socket that several threads use.

To send the next frame, to count it and to note what it was for is one step here, and so is to take
in what has arrived: no other Python code runs meanwhile, no thread, signal handler or finalizer. A
lock cannot do that: a handler that runs while its thread holds it could wait for an answer that
nobody can deliver.
"""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memmove

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.set cimport PySet_GET_SIZE

cdef extern from *:
    """
    #ifdef _WIN32
    #define CAN_SHARE 0
    static Py_ssize_t send_now(int descriptor, const char *data, size_t size) { return -1; }
    static Py_ssize_t receive_now(int descriptor, char *data, size_t size) { return -1; }
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #define CAN_SHARE 1
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static Py_ssize_t send_now(int descriptor, const char *data, size_t size) {
        return send(descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    /* What has arrived; 0 at the end, of whatever kind; -1 for nothing yet. */
    static Py_ssize_t receive_now(int descriptor, char *data, size_t size) {
        Py_ssize_t received = recv(descriptor, data, size, MSG_DONTWAIT);
        if (received < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return 0;
        return received;
    }
    #endif
    """
    int CAN_SHARE
    Py_ssize_t send_now(int descriptor, const char* data, size_t size)
    Py_ssize_t receive_now(int descriptor, char* data, size_t size)

cdef enum:
    RECEIVE_BYTES = 65536
    HEADER = 4

cdef char arrived[RECEIVE_BYTES]  # of one step: stacks of threads may be small


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
        """Send on a socket from now on. Not on Windows."""
        if CAN_SHARE:
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


@cython.final
cdef class SharedReader:
    """Takes in frames from a socket: their length in four bytes, big-endian, and what they hold.
    Whoever handles the first then says that it is done; others may have handled it too."""

    cdef readonly bint has_ended
    cdef readonly int descriptor
    cdef bytearray _buffer
    cdef bytes _first
    cdef Py_ssize_t _start, _frame_bytes_max  # what lies before the start is done

    def __init__(self, Py_ssize_t frame_bytes_max):
        self._frame_bytes_max = frame_bytes_max
        self.close()

    @property
    def is_open(self):
        """Whether threads may take something in. On Windows never."""
        return CAN_SHARE and self.descriptor >= 0

    def open(self, int descriptor):
        """Begin with what arrives on a socket."""
        self.close()
        self.has_ended = False
        self.descriptor = descriptor

    def close(self):
        """Take nothing in any more, and forget what is not handled."""
        self.has_ended = True
        self.descriptor = -1
        self._buffer = bytearray()
        self._start = 0
        self._first = None

    def receive(self):
        """Take in what has arrived, without waiting for it. `has_ended` when no more will."""
        cdef Py_ssize_t received
        if self.descriptor >= 0:
            received = receive_now(self.descriptor, arrived, RECEIVE_BYTES)
            if received >= 0:
                self._take(arrived, received)

    def feed(self, bytes data not None):
        """Take in what has arrived; nothing is the end."""
        self._take(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef _take(self, const char* data, Py_ssize_t size):
        """Take in what has arrived. MemoryError when it cannot be: then this is the end, since
        what comes later would follow on a hole; what came before can be handled."""
        cdef Py_ssize_t left = PyByteArray_GET_SIZE(self._buffer) - self._start
        cdef char* begin = PyByteArray_AS_STRING(self._buffer)
        memmove(begin, begin + self._start, left)
        try:
            PyByteArray_Resize(self._buffer, left + size)
        except MemoryError:
            memmove(begin + self._start, begin, left)
            self.has_ended = True
            raise
        self._start = 0
        memcpy(PyByteArray_AS_STRING(self._buffer) + left, data, size)
        if not size:
            self.has_ended = True

    def first(self):
        """Return the first frame that is not done, None when none has come whole. One that is too
        long ends all."""
        cdef Py_ssize_t left = PyByteArray_GET_SIZE(self._buffer) - self._start
        cdef const uint8_t* at = <const uint8_t*>PyByteArray_AS_STRING(self._buffer) + self._start
        cdef Py_ssize_t length
        if self._first is None and left >= HEADER:
            length = <Py_ssize_t>at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]
            if length > self._frame_bytes_max:
                self.has_ended = True
            elif left >= HEADER + length:
                self._first = PyBytes_FromStringAndSize(<const char*>at + HEADER, length)
        return self._first

    def done(self, bytes frame not None):
        """Go on to the next frame, if this is the first."""
        if frame is self._first:
            self._start += HEADER + PyBytes_GET_SIZE(frame)
            self._first = None
