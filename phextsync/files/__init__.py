"""Bound directories: files and a range of scrolls that are the same.

* `names`: which scroll is which file, as a scroll says it
* `layout`: at which path each file lies
* `ignoring`: which files are left alone
* `filesystem`: what is asked of a file system
* `directory`: the files of a directory, read and written without losing what others write
* `records`: what a file held when it was last read or written
* `problems`: what cannot be kept in step, and when to try again
* `binding`: decides what is done to files and scrolls
* `bindings`: which directories of this machine are bound
* `service`: keeps them in step while a node runs
"""
