"""Fuzzing of all that reads what strangers wrote: `python -m fuzz NAME --seconds N`."""
