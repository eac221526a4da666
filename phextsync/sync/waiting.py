"""Waiting: what a second link of a node brings until it is known whether it stays."""

from phextsync.sync.limits import Limits


class Waiting:
    """Frames of one link, kept while the first link of the same node is asked whether it lives:
    `probe` is the ping that asks."""

    def __init__(self, limits: Limits) -> None:
        self.is_begun = False
        self.probe = 0
        self.frames: list[bytes] = []
        self._limits = limits
        self._bytes = 0

    def keep(self, frame: bytes) -> bool:
        """Keep a frame; return whether there was room for it."""
        self.frames.append(frame)
        self._bytes += len(frame)
        return (
            len(self.frames) <= self._limits.held_frames_max
            and self._bytes <= self._limits.held_bytes_max
        )

    def take(self) -> list[bytes]:
        """Return the frames; the link waits no longer."""
        frames, self.frames, self._bytes, self.is_begun = self.frames, [], 0, False
        return frames
