"""Replica: a phext as a mapping of coordinates to texts, its changes and its past.

* `past`: what was written when, and by whom
* `changes`: what happened to texts, and who did it
* `views`: a range of a phext as a mapping
* `listener`: who is told of what happens to replicas
* `history_keeper`: which of the past is kept, and for how long
* `staged`: values by key on their way to the store
* `durability`: what a batch takes, and what became of it
* `replicas`: one phext, and all of a node
"""

from phextsync.replica.replicas import History, Replica, ReplicaSet

__all__ = ["History", "Replica", "ReplicaSet"]
