"""Build the corpus of the demo: `python examples/make_corpus.py OUT.phext`.

The notes of a fictitious team of people and agents: memories, daily logs of a year, mailboxes,
documents, in many scripts. Composed from the texts in `corpus/` and the same on every machine.
"""

import sys
from datetime import date, timedelta
from pathlib import Path
from random import Random

from phextsync.index import Coordinate
from phextsync.phextfile import implode

_TEXTS = Path(__file__).parent / "corpus"
_AGENTS = ("aurora", "brisk", "cedar", "dusk", "ember", "fjord")
_PEOPLE = ("Mara", "Ilias", "Odile", "Ren", "Tadesse", "Noor")
_PLACES = ("the cellar", "the greenhouse", "Bora", "Mistral", "the corridor", "the roof", "Föhn")
_EVENTS = (
    "{hour:02}:{minute:02} {agent} checked {place}: {value} °C, {count} entries, nothing to do.",
    "{hour:02}:{minute:02} {person} asked for the list of {count} open mails; {agent} sent it.",
    "{hour:02}:{minute:02} restored backup {serial} on {place} in {value} s ✅",
    "{hour:02}:{minute:02} {agent} and {person} disagree about {place}; noted, not settled ⏳",
    "{hour:02}:{minute:02} {person} is away until {count} \U0001f9d1\U0001f3fd\u200d\U0001f680",
    "{hour:02}:{minute:02} cable {serial} in {place} replaced by {person}.",
)
_FIRST_DAY = date(2026, 1, 1)


def corpus() -> dict[Coordinate, str]:
    """Return the scrolls: library 1 memories, 2 logs by agent, month and day, 3 mailboxes,
    4 documents by language."""
    source = Random(9)
    voices = _sections("voices.txt")
    memory = _sections("memory.txt")
    scrolls: dict[Coordinate, str] = {}
    for i, agent in enumerate(_AGENTS, 1):
        scrolls[_place(1, i, 1)] = _memory(agent, memory, source)
        for day in range(105):
            when = _FIRST_DAY + timedelta(days=day + 7 * i)
            scrolls[_place(2, i, when.month, when.day)] = _log(agent, when, voices, source)
        for number in range(1, 11):
            scrolls[_place(3, i, number)] = _mail(agent, number, voices, source)
    for i, (language, lines) in enumerate(voices.items(), 1):
        scrolls[_place(4, i, 1)] = f"# {language}\n\n" + _shuffled(lines, 12, source)
    scrolls[_place(5, 1, 1)] = (_TEXTS / "crlf.txt").read_bytes().decode()
    return scrolls


def _place(library: int, *rest: int) -> Coordinate:
    return Coordinate(library, *rest, *[1] * (8 - len(rest)))


def _sections(name: str) -> dict[str, list[str]]:
    """Read blocks: a heading, then lines."""
    blocks = (_TEXTS / name).read_text("utf-8").strip().split("\n\n")
    return {block.split("\n")[0]: block.split("\n")[1:] for block in blocks}


def _memory(agent: str, memory: dict[str, list[str]], source: Random) -> str:
    headings = list(memory)
    source.shuffle(headings)
    return f"# MEMORY of {agent}\n\n" + "\n\n".join(
        f"## {heading}\n" + "\n".join(memory[heading]) for heading in headings
    )


def _log(agent: str, when: date, voices: dict[str, list[str]], source: Random) -> str:
    lines = [f"# {agent}, {when.isoformat()}", ""]
    hour = 5.0
    for _ in range(source.randint(18, 30)):
        hour += source.random() * 18 / 30
        event = source.choice(_EVENTS).format(
            hour=int(hour),
            minute=int(hour % 1 * 60),
            agent=agent,
            person=source.choice(_PEOPLE),
            place=source.choice(_PLACES),
            value=round(source.uniform(2, 40), 1),
            count=source.randint(1, 24),
            serial=source.randrange(10_000, 99_999),
        )
        lines.append(f"- {event}")
    language = source.choice(list(voices))
    return "\n".join(
        [*lines, "", f"Read today ({language}): {source.choice(voices[language])}", ""]
    )


def _mail(agent: str, number: int, voices: dict[str, list[str]], source: Random) -> str:
    sender = source.choice([*_PEOPLE, *(other for other in _AGENTS if other != agent)])
    language = source.choice(list(voices))
    body = _shuffled(voices[language], source.randint(2, 5), source)
    return f"From: {sender}\nTo: {agent}\nNumber: {number}\n\n{body}"


def _shuffled(lines: list[str], times: int, source: Random) -> str:
    """Return paragraphs of the lines in changing order, each numbered."""
    paragraphs = []
    for number in range(1, times + 1):
        order = source.sample(lines, len(lines))
        paragraphs.append(f"{number}. " + " ".join(order))
    return "\n\n".join(paragraphs) + "\n"


def main() -> None:
    """Write the file that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/make_corpus.py OUT.phext")
    Path(sys.argv[1]).write_bytes(implode(corpus()).encode())


if __name__ == "__main__":
    main()
