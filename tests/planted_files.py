"""Planted defects of bound directories."""

from dataclasses import replace

import pytest

from phextsync.files.directory import Directory
from phextsync.files.records import Intent, Record, Records
from phextsync.files.settling import Settling
from phextsync.files.writes import Changed, Draft, Placed, Write
from phextsync.index import Coordinate
from sims.machines import Machine


def run_ahead_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let records say what is meant to be on the disk."""

    def intend(
        records: Records, coordinate: Coordinate, record: Record, intent: Intent, text: str
    ) -> None:
        ahead = replace(record, path=intent.path, digest=intent.digest, mark=None)
        records.keep(coordinate, ahead, text if text else None)

    monkeypatch.setattr(Records, "intend", intend)


def forget_intents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look after a crash what became of what was meant."""

    async def find_out(settling: Settling, now: float) -> None:
        for coordinate in settling._records:
            record = settling._records.get(coordinate)
            if record is not None and record.intent is not None:
                settling._records.keep(coordinate, replace(record, intent=None))

    monkeypatch.setattr(Settling, "find_out", find_out)


def write_before_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be written before it is durable that they are to be."""

    async def at_once(machine: Machine) -> None:
        """Wait for nothing."""

    monkeypatch.setattr(Machine, "_durable", at_once)


def write_over_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file be written over as it is."""
    place = Directory._place

    def blindly(directory: Directory, write: Write, draft: Draft, now: float) -> Placed | Changed:
        status = directory._files.status(write.path)
        if status is not None and status.is_file and write.text:
            directory._files.rename(draft.path, write.path)
            return directory._placed(write, draft)
        return place(directory, write, draft, now)

    monkeypatch.setattr(Directory, "_place", blindly)
