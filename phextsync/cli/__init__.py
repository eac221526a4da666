"""The phextsync command.

* `common`: what all commands have in common
* `settings`: what config.toml of a data folder says of how its node runs
* `writers`: who wrote and when, as it is printed and given
* `measure`: what a running node measures of its mesh
* `running`: a command of the shell that is run for what changes
* `scrolls`: the commands that read and write scrolls
* `names`: the command about what people call the parts of coordinates
* `past`: the commands about the past of scrolls
* `quarantine`: the command about writers whose work waits
* `taking_back`: the command that takes back what one writer did
* `files`: the commands about bound directories
* `mail`: the commands about boxes and messages
* `editor`: the command that serves an editor
* `tasks`: the commands about tasks
* `hosts`: the command that tells the hosts of agents of phextsync
* `holding`: the commands about what this node holds
* `placing`: the commands about which machines hold what
* `doors`: what `up` opens to clients that are not ours
* `starting`: whether `up` can do what config.toml says
* `status`: what `phextsync status` prints
* `logs`: what a node logs, on standard error and in a file
* `supervisor`: what a service manager is told of a node
* `node`: the commands that run this node, and measure it
* `services`: the files that start a node with the machine
* `service`: the commands that have a node started with the machine
* `config`: the command that shows how a node is to run, and who says so
* `checks`: what `doctor` looks at, as functions of facts
* `facts`: what there is to know of a folder, its node and this machine
* `doctor`: the command that looks whether anything is in a node's way
* `folder`: the commands that keep the data folder
* `membership`: the commands about who belongs to a mesh
* `migrate`: the commands that bring here what other programs kept
* `root`: the group of all commands, which refuses what is empty
* `main`: the command itself
"""

from phextsync.cli.main import main

__all__ = ["main"]
