"""Replica: a phext as a mapping of coordinates to texts, its changes and its past.

What all replicas of a node share:

* `pieces`: how the past of a scroll is stored
* `replaying`: a scroll as it was
* `peer_versions`: which versions peers told
* `extents`: what versions have, and what is deleted in them
* `sides`: what others had when changes met
* `kept_ends`: which ends of lines stay when one writer is taken back
* `put_back`: text that stands again, and which copy of it stays
* `taking_back`: what takes back what one writer did
* `past`: what was written when, and by whom
* `changes`: what happened to texts, and who did it
* `views`: a range of a phext as a mapping
* `listener`: who is told of what happens to replicas
* `history_keeper`: which of the past is kept, and for how long
* `staged`: values by key on their way to the store
* `durability`: which changes a batch takes, and what became of it; when: `node.committing`
* `noted_scrolls`: sets of scrolls that a node still knows when it starts again
* `guests`: which scrolls are here that are not held
* `holding`: what of each phext is held, and what becomes of the rest
* `budget`: how much memory open scrolls may take
* `author`: this node as one who writes
* `clients`: under which client ids this node writes
* `shared`: all of these at hand

The parts of one replica:

* `pending`: the latest of each scroll, and where it is on its way to the store
* `tracked`: whose steps are remembered
* `halves`: where a text must not be cut
* `documents`: open scrolls
* `contents`: what scrolls are, told without a document where it can be
* `pasts`: what is kept of the past of scrolls
* `publisher`: who is told which texts changed
* `writes`: changes on their way into batches
* `merging`: what peers bring
* `editor`: changes that are made here
* `mending`: changes of an open scroll that may break off anywhere
* `guest_scrolls`: the texts of guests
* `undo`: takes back what one writer did
* `replica`: one phext
* `replicas`: all of a node
"""

from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.undo import History

__all__ = ["History", "Replica", "ReplicaSet"]
