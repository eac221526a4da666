"""Trust: who may come into a mesh, and who may read and write what.

* `permissions`: which ranges of which phexts a node may read and write
* `codes`: bytes as a line that people retype
* `private_files`: keys on disk
* `certificates`: what stands in certificates
* `authority`: mesh keys, and who issues certificates
* `identity`: who a node is
* `known_peers`: whom this node knows by which name, and whom it lets in
"""
