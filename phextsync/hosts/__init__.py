"""Hosts: adapters to programs of other people in which agents run.

* `anthropic_memory`: the memory tool of Anthropic's SDK
"""
