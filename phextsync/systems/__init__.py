"""What differs between operating systems, each thing in one module with a way for each of them.

Linux is what the tests run on; the ways of macOS and Windows follow their documentation and were
not run there. A module chooses when it is imported: what a system lacks is not even looked for.

* `opening`: how files are opened, read and written at a place
* `locking`: locks of files that end with the process
* `syncing`: what makes files and folders durable
* `renaming`: two names exchanged, a name that nobody has, and when a file was made
* `rights`: who may read a file, and who this process is
* `resources`: how many files may be open, how large a map and a name may be
* `forking`: what a forked child does first
* `arriving`: how a thread waits for what arrives on a socket
* `leasing`: whether some program may still write into a file
* `volumes`: the kind of the file system of a path, where the system has no list of mounts
* `ending`: signals that end a program, and a program with those that it started
"""
