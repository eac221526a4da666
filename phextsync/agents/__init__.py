"""Agents: what agents share through scrolls, over the handles of a node.

* `memory_files`: the scrolls of a range as files in folders
* `memory_scrolls`: what these ask of handles of each kind
* `memory_commands`: what agents do with them
"""
