from libc.stdint cimport uint8_t


cdef Py_ssize_t single_text(
    const uint8_t* update, Py_ssize_t count, const uint8_t** text
) noexcept nogil
