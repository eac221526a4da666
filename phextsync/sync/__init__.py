"""Sync: what two nodes say to each other until both hold the same. Without IO.

* `messages`: the wire's vocabulary and limits
* `reconcile`: what differs between two indexes, by ranges
* `sketch`: few differences between two indexes, in one round trip
* `comparison`: the turns of two nodes until both know what differs
* `presence`: who is there, and what each node tells of itself
* `synchronizer`: what to say to each peer
"""
