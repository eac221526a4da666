"""Measurements: `python -m benchmarks NAME [--json] [--quick]`. See `report` for the format."""
