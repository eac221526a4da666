"""Trust: who may come into a mesh, and who may read and write what.

* `permissions`: which ranges of which phexts a node may read and write
* `identity`: mesh keys, certificates, join codes
* `known_peers`: whom this node knows by which name, and whom it lets in
"""
