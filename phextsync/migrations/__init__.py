"""Migrations: what other programs kept, brought here. Nothing of theirs is changed unasked.

* `conflict_copies`: what Syncthing left of files that were changed apart, merged into them
"""
