"""Hosts: adapters to programs of other people in which agents run."""
