"""What fuzzing met once stays mended: corpora and findings are replayed without fuzzing."""

from pathlib import Path
from random import Random

import pytest

from fuzz import corpora
from fuzz.mutate import mutate
from fuzz.targets import TARGETS

_FINDINGS = Path(__file__).parent / "vectors" / "fuzz"


@pytest.mark.parametrize("finding", sorted(_FINDINGS.glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_found_breaks_no_promise_any_more(finding: Path) -> None:
    TARGETS[finding.stem.rpartition("-")[0]].run(finding.read_bytes())


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_corpus_breaks_no_promise(name: str) -> None:
    corpus = corpora.load(name)
    for data in corpus[:: 1 + len(corpus) // 60]:
        TARGETS[name].run(data)


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.targets.encode", lambda message: b"\x82\x09\x02")
    with pytest.raises(AssertionError):
        TARGETS["frames"].run(b"\x82\x09\x01")


def test_mutations_depend_on_the_seed_alone() -> None:
    corpus = corpora.load("updates")
    runs = [[mutate(corpus[3], corpus, Random(7)) for _ in range(20)] for _ in range(2)]
    assert runs[0] == runs[1]
