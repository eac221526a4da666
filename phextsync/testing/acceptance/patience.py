"""How long claims wait for what must happen."""

from typing import Final

PATIENCE_S: Final = 20.0
"""Only a defect takes that long."""
