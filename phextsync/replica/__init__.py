"""Replica: a phext as a mapping of coordinates to texts, its changes and its past.

* `past`: what was written when, and by whom
* `changes`: what happened to texts, and who did it
* `views`: a range of a phext as a mapping
* `replicas`: one phext, and all of a node
"""

from phextsync.replica.replicas import History, Replica, ReplicaSet

__all__ = ["History", "Replica", "ReplicaSet"]
