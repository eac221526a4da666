# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sealed values of a data file: checked, and read, in one pass. `store.records` has their form."""

from libc.stdint cimport uint8_t, uint64_t

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

from xxhash import xxh3_64_intdigest

from phextsync.index._bytes import plain_text

from phextsync.index._bytes cimport single_text
from phextsync.index._xxh3 cimport XXH3_MAX, XXH3_MIN, big_word_at, xxh3, xxh3_of_8

cdef enum:
    PLACE = 16
    CHECKSUM = 8
    HEAD = 44  # fingerprint, size, digest of the content
    CONTENT = 36  # where the digest begins
    NAME = 6  # the longest name of a database

cdef bytes _HEADS = b"heads"
cdef bytes _STATES = b"states"


cdef uint64_t seed_of(bytes database, bytes place) noexcept:
    """Return the seed of a checksum: the digest of the database and the key."""
    cdef uint8_t key[NAME + PLACE]
    cdef Py_ssize_t i, length = PyBytes_GET_SIZE(database)
    cdef const uint8_t* name = <const uint8_t*>PyBytes_AS_STRING(database)
    cdef const uint8_t* rest = <const uint8_t*>PyBytes_AS_STRING(place)
    for i in range(length):
        key[i] = name[i]
    for i in range(PLACE):
        key[length + i] = rest[i]
    return xxh3(key, <int>length + PLACE, 0)


def sealed_text(bytes place not None, bytes head not None, bytes state not None):
    """Return the text of the scroll at a place whose head names its state and nothing else.

    None when a checksum is wrong, when there is a log too, or when only a document can tell.
    """
    cdef Py_ssize_t length = PyBytes_GET_SIZE(state) - CHECKSUM
    cdef const uint8_t* head_at = <const uint8_t*>PyBytes_AS_STRING(head)
    cdef const uint8_t* state_at = <const uint8_t*>PyBytes_AS_STRING(state)
    cdef const uint8_t* text
    cdef uint64_t found, seed
    cdef Py_ssize_t text_bytes
    if PyBytes_GET_SIZE(place) != PLACE or PyBytes_GET_SIZE(head) != HEAD + CHECKSUM or length < 0:
        return None
    if xxh3(head_at, HEAD, seed_of(_HEADS, place)) != big_word_at(head_at + HEAD):
        return None
    if xxh3_of_8(state_at + length, 0) != big_word_at(head_at + CONTENT):
        return None
    seed = seed_of(_STATES, place)
    if XXH3_MIN <= length <= XXH3_MAX:
        found = xxh3(state_at, <int>length, seed)
    else:
        found = xxh3_64_intdigest(state[:length], seed=seed)
    if found != big_word_at(state_at + length):
        return None
    text_bytes = single_text(state_at, length, &text)
    if text_bytes >= 0:
        return PyUnicode_DecodeUTF8(<const char*>text, text_bytes, NULL)
    plain = plain_text(state[:length])
    return None if plain is None else plain.decode()
