"""Elsewhere: what this node does not hold, asked for at peers that do, and what they ask of it."""

from collections.abc import Mapping
from typing import assert_never

from phextsync.sync.asked import Asking
from phextsync.sync.fetching import Fetching
from phextsync.sync.lacks import Lacks
from phextsync.sync.link import Link, Shared
from phextsync.sync.messages import (
    Ask,
    Changed,
    Fetch,
    Fetched,
    Survey,
    Surveyed,
    Told,
    Watch,
)
from phextsync.sync.questions import Questions
from phextsync.sync.surveying import Surveying
from phextsync.sync.watching import Watching
from phextsync.sync.working_out import WorkingOut


class Elsewhere:
    """All kinds of questions of a node, over all links."""

    def __init__(self, links: Mapping[int, Link], shared: Shared, lacks: Lacks) -> None:
        clock, limits = shared.clock, shared.settings.limits
        self._links = links
        self._clock = clock
        self.questions = Questions(links, clock)
        self.fetching = Fetching(links, shared, lacks, self.questions)
        self.surveying = Surveying(clock, self.questions)
        self.working_out = WorkingOut(clock, self.questions, told_bytes_max=limits.told_bytes_max)

        holding = shared.replicas.holding
        most = limits.watches_max
        self.watching = Watching(links, clock, holding, self.fetching, watches_max=most)

    def receive(
        self, link: Link, message: Asking | Fetched | Surveyed | Told | Watch | Changed
    ) -> None:
        """A peer asks, or answers. ProtocolError for what it may not say."""
        match message:
            case Fetch() | Survey() | Ask():
                link.hosting.ask(message)
            case Fetched():
                self.fetching.receive(link, message)
            case Surveyed():
                self.surveying.receive(link, message)
            case Told():
                self.working_out.receive(link, message)
            case Watch():
                link.shown.receive(message)
            case Changed():
                self.watching.receive(link, message)
            case _:
                assert_never(message)

    def tell(self, now: float, link: int, asked: Ask, answer: bytes) -> None:
        """Answer what a peer asked on `link` to be worked out, if that is still there."""
        self._clock.advance(now)
        if (known := self._links.get(link)) is not None:
            known.hosting.tell(asked, answer)
            known.ready()

    def met(self, link: Link) -> None:
        """A peer has come, or tells anew what it holds."""
        self.questions.met()
        self.fetching.met()
        self.watching.told_anew(link)
        self.watching.look()

    def lost(self, link: Link) -> None:
        """A link is gone."""
        link.shown.close()
        if link.hello is not None:
            self.fetching.lost(link)
            self.watching.look()

    def committed(self) -> None:
        """This node has more on its disk, and perhaps holds something else."""
        self.fetching.committed()
        self.watching.look()
