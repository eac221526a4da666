"""Agents: what agents share through scrolls, over the handles of a node.

* `memory_files`: the scrolls of a range as files in folders
* `memory_scrolls`: what these ask of handles of each kind
* `memory_commands`: what agents do with them
* `store_records`: what a memory store is, and what its numbers mean
* `memory_stores`: memories by path in stores, with their versions
"""
