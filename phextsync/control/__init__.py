"""Control: what other processes ask of a node, its socket, and what is done without a node.

* `frames`: requests and answers as bytes
* `status`: how a node or a folder is, for all who read it
* `node_names`: which node people mean by a name, an id, or the start of one
* `answers`: each form of an answer, as it is sent and as it is read
* `kinds`: what operations take, and of which type it is
* `table`: what a row of the table of operations says
* `operations`: all that can be asked, in one table
* `arguments`: whether what a caller passes is of the types that operations take
* `placing`: policies and members of a mesh, as scrolls
* `taking_back`: what there is to take back of one writer, in pages
* `quarantine`: whose work waits until somebody accepts it
* `brought`: which commits of repositories were brought where
* `performing`: what is done to scrolls, and what is looked up
* `gathering`: what is asked about a range of which others hold a part
* `desk`: carries out requests for a node, each change once
* `bringing`: requests wait until scrolls are here that others hold
* `sessions`: what lasts as long as a process is there
* `loopback`: the folder's socket where the system has none that are files
* `sockets`: the folder's socket
* `server`: answers other processes over it
* `client`: a plain connection to it
* `upkeep`: checking, repairing, backing up and restoring a data folder
"""
