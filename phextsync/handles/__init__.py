"""Handles: a node behind plain calls, for any thread; for asyncio see `phextsync.aio`.

* `visit`: a folder for as long as a command lasts
* `call`: a request on its way, and its answer
* `line`: the way to the process that owns the folder, for all threads
* `folder_client`: one process at a folder: it runs the node, or asks the one that does
* `bell`: how one thread wakes the task of another
* `inbox`: what other threads leave for the engine's
* `turn`: whose turn it is to use the node
* `direct`: what is done in the thread that asks
* `engine`: a thread in which a folder client lives
* `requests`: what handles of every kind put into requests
* `batch`: changes that are to be made together
* `steps`: steps of one writer, taken back and done again
* `changes`: changes of a phext as they come
* `async_range`: the scrolls of a phext in a range, for asyncio
* `awaiting`: requests that are awaited in asyncio
* `phexts`: a phext as a mapping
* `blocking`: `phextsync.open`
"""
