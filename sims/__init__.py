"""Simulations of meshes in one thread: `python -m sims sweep --seeds 0-99`."""
