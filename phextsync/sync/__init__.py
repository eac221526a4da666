"""Sync: what two nodes say to each other until both hold the same. Without IO.

* `messages`: the wire's vocabulary and limits
* `reconcile`: what differs between two indexes, by ranges
* `sketch`: few differences between two indexes, in one round trip
* `comparison`: the turns of two nodes until both know what differs
* `presence`: who is there, and what each node tells of itself
* `clock`: the time that the core was told, and when it wants to be told again
* `outbox`: short messages that wait for a link
* `heartbeat`: whether a peer still lives
* `rights`: what each side of a link may be shown, may send and takes
* `ledger`: which frames of updates are on whose disk
* `recent`: the updates that took effect last
* `news`: which phexts have changed, and whether that is durable
* `synchronizer`: what to say to each peer
"""
