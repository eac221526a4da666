"""Placement: which members of a mesh hold which ranges of a phext. Pure functions of texts that
are the same on every machine.

* `members`: who is a member, as a text and as a value
* `silence`: for how long a node has heard nothing of members
* `policy`: what people ask for, as a text and as a value
* `draws`: in which order members come for a slot
* `slots`: which members hold which slots, each about its share
* `holders`: which members hold which ranges
"""
