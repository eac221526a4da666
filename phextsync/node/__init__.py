"""Node: links, commits, the clock and discovery of one running node.

* `invitations`: how a new machine gets its certificate from the administrator's node
* `surroundings`: what a node touches outside of itself
* `memory`: a store on a disk or in memory, and what is nowhere else
* `status`: what a node tells of its peers
* `committing`: when what has changed is flushed to the disk
* `acquaintances`: which peers there are, and who of them was here when
* `gate`: nobody is met before what was changed meanwhile is taken in
* `links`: frames between the core and the network
* `overlay`: with whom of the nodes that there are a node keeps links
* `options`: what a program passes, looked at before it is used
* `neighbourhood`: with whom it is to be linked now, and which links it ends
* `turns`: whom to dial next, of nodes of which one is enough
* `dialler`: where there ought to be a link, and when to try again
* `discoverer`: announces this node, and hears of others
* `agreement`: whether the peers have what we have
* `witness`: says of members that are silent that they are
* `growth`: cuts ranges that have become large
* `pace`: which of the ranges that come are taken now
* `follower`: what is held of what is followed, as placement says
* `copies`: on how many machines placed ranges are
* `errands`: with whom to be linked for a while, for what is held in parts
* `following`: keeps it so while the node runs
* `pieces`: a range that others hold, in parts that are asked for one by one
* `survey_pages`: what there is in a range, put together from them
* `foreign`: what others hold, fetched and surveyed
* `quarantine`: takes what writers in quarantine put in, and what was put back twice
* `answering`: what peers ask to be worked out of what is held here
* `doors`: the folder's socket, and where new machines come in
* `importing`: many texts at once
* `node`: `open_node`, where all of it meets
"""

from phextsync.node.node import DEFAULT_PHEXT, DEFAULT_PORT, Node, open_node

__all__ = ["DEFAULT_PHEXT", "DEFAULT_PORT", "Node", "open_node"]
