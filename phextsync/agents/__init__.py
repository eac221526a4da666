"""Agents: what agents share through scrolls, over the handles of a node."""
