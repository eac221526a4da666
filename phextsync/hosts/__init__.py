"""Hosts: adapters to programs of other people in which agents run.

* `anthropic_memory`: the memory tool of Anthropic's SDK
* `journal`: what has still to be delivered, on the disk
* `delivery`: brings that to a node, whenever one can be reached
* `recall`: what is known about a question, found while others wait briefly
* `shared_lists`: what an agent's writes become in scrolls
* `hermes`: a memory provider for hermes-agent
* `insertions`: where a server stands in the configuration of a host
* `configurations`: the files in which hosts are told of phextsync
"""
