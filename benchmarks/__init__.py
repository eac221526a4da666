"""Measurements: `python -m benchmarks NAME [--json] [--quick]`. See `report` for the format.

`python -m benchmarks report --out DIR` writes the whole report of this machine."""
