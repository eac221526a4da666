"""Handles: a node behind plain calls, for any thread; for asyncio see `phextsync.aio`.

* `attach`: one process at a folder: it runs the node, or asks the one that does
* `blocking`: `phextsync.open`
"""
