"""Simulations of meshes: `python -m sims sweep --seeds 0-99`; or real ones: `run --tier real`."""
