"""Control: the socket that other processes use, and what is done without a node.

* `desk`: operations that other processes ask of a node
* `upkeep`: checking, repairing, backing up and restoring a data folder
"""
