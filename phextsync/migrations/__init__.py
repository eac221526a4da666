"""Migrations: what other programs kept, brought here. Nothing of theirs is changed unasked.

* `bringing`: files with their histories become scrolls
* `git_repository`: what a repository says, read without trust
* `file_histories`: which versions the files of a repository had
* `git_files`: what of a repository can become scrolls
* `sq_phexts`: what SQ has of phexts
* `conflict_copies`: what Syncthing left of files that were changed apart, merged into them
"""
