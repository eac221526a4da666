"""Limits: every size that a peer could otherwise choose, each with its reason."""

from dataclasses import dataclass

from phextsync.phext_names import PHEXTS_MAX
from phextsync.replica.guests import GUESTS_MAX
from phextsync.replica.holding import RANGES_MAX


@dataclass(frozen=True, slots=True)
class Limits:
    """Every size that a peer could otherwise choose."""

    frame_bytes_max: int = 1 << 20
    """One frame in memory on each side of each link; a larger scroll travels in parts. What
    tells of many scrolls is cut to fit; lists that have limits of their own need half a megabyte.
    """
    updates_bytes_goal: int = 64 << 10
    """A frame of updates is closed when it has this many bytes: large enough that the cost of
    a frame vanishes, small enough that a live edit never waits behind more than one."""
    scroll_bytes_max: int = 64 << 20
    """The encoded state of one scroll, put together from its parts. No edit makes a state
    larger, nor a text larger than half of it (`phextsync/texts.py`); what several wrote apart may
    be, and is not sent."""
    assemblies_bytes_max: int = 256 << 20
    """Parts that wait for the rest of their scrolls, over all links: four of the largest."""
    entries_max: int = 1 << 14
    """Entries in one frame. The largest frame of ours has 13,000: the updates of one scroll that
    was changed so often while a peer was slow."""
    scrolls_max: int = 1 << 11
    """Different scrolls in one frame of updates: a new one may take half a millisecond, and others
    wait meanwhile. Ours have 1,640 at most."""
    items_max: int = 1 << 17
    """CBOR items in one frame. One of a byte takes 56 when it is read; 16,384 entries have five."""
    phexts_max: int = PHEXTS_MAX
    """Phexts of one node, and so of one peer."""
    ranges_max: int = RANGES_MAX
    """Ranges of one phext that a node holds, gives up, or keeps of what another gives up."""
    name_bytes_max: int = 255
    """A phext's or a node's name in UTF-8, a reason."""
    wants_max: int = 4096
    """Scrolls asked for and not yet answered on one link, and so in one frame."""
    wants_bytes_max: int = 1 << 20
    """Versions in requests that are not yet answered on one link, and one frame more."""
    found_max: int = 1 << 16
    """Scrolls that comparisons found and that wait to be asked for or sent, on one link, of each
    kind about 250 bytes; what is beyond is found by the next comparison."""
    gaps_max: int = 1 << 14
    """Scrolls of which a peer sent updates without those that they build on."""
    answers_max: int = 1 << 12
    """Short messages (pongs, refusals, conflicts) that wait for a peer that does not read them,
    half a kilobyte each. A peer that reads never has more than one frame asks for."""
    refusals_max: int = 1 << 14
    """Scrolls whose updates a peer refused, on one link."""
    refusals_reported_max: int = 8
    """Lines for the operator about what one link brought and was refused; one more says that
    there is more."""
    conflicts_max: int = 4
    """Times that one link may have us take another text of one scroll with its version."""
    window_frames: int = 256
    """Frames of updates under way on one link without an acknowledgement. What the peer asks for is
    sent beyond, up to `wants_max` frames: it may acknowledge nothing before it has that."""
    held_frames_max: int = 64
    """Frames kept of a link of which it is not yet known whether it stays: 3 s at most."""
    held_bytes_max: int = 4 << 20
    """Bytes of those frames: as many at the size that frames of updates aim at."""
    compare_steps_max: int = 64
    """Messages of one comparison that finds little: twice what the deepest tree of coordinates
    needs. One that finds much may take more, see `entries_per_step_min`."""
    entries_per_step_min: int = 1024
    """Scrolls for each of which a comparison may take another message. A message of ranges has
    256 KiB when there is so much to say: lists of over 10,000 scrolls."""
    audit_entries_max: int = 100_000
    """Scrolls up to which every change is audited; an audit takes 30 ns for each. As many per
    second a peer may have us audit, saved up for `audit_saved_s` at most: 0.3 % of our time."""
    audit_saved_s: float = 8.0
    compares_bytes_max: int = 4 << 20
    """Turns of comparisons that wait for a peer that does not read them; beyond, a comparison is
    ended and repeated later."""
    tail_bytes_max: int = 8 << 20
    """Recent updates kept for peers that are in step, for a minute; a peer behind them gets a
    difference."""
    version_bytes_max: int = 256 << 10
    """The version of one scroll in a request."""
    had_max: int = 16
    """Versions of one scroll that one message says nodes had: as many as are kept, the last."""
    presences_max: int = 1 << 12
    """Nodes whose presence is kept: 6 MB at most, and 0.4 KB for each that tells little. Peers of
    ours always find room. Where there are more, nobody is taken for silent, so nothing is repaired.
    """
    presence_bytes_max: int = 1024
    """The facts that one node tells of itself; it tells them to everybody every few seconds."""
    presence_left_s_max: int = 600
    """Seconds for which a presence may claim to hold without a word from its node."""
    spared_max: int = 1 << 12
    """Scrolls of a peer that get an update from who wrote it and not from us, since the last
    comparison: with more, a comparison is due, and until it has ended the rest is sent."""
    update_ids_max: int = 1 << 14
    """Updates that a node remembers by their ids, and such as it is told of and lacks: 3 MB. What
    is told later than so many others is fetched once more, or found by a comparison."""
    update_ids_told_max: int = 1 << 13
    """Ids of updates in one frame, 64 KiB: twice as many as a node of ours leaves to others."""
    fetches_max: int = 256
    """Scrolls and ranges that a peer has asked to be shown and that were not yet, on one link."""
    subscriptions_max: int = GUESTS_MAX
    """Scrolls of whose changes a peer that does not hold them is told, on one link: as many as a
    node has guests. Of more it is not told, and hears that."""
    surveyed_max: int = 256
    """Scrolls in one answer about a range: a frame of 25 KB, made in milliseconds."""
    asked_bytes_max: int = 4096
    """What is asked to be worked out of a range: words to search for, a time."""
    told_bytes_max: int = 8 << 20
    """One answer to that: the log of a scroll that was changed 100,000 times. A longer one is an
    error that says so."""
    watches_max: int = 256
    """Ranges of whose changes a peer that does not hold them is told, on one link: of each a set of
    changed coordinates is kept."""
    changed_max: int = 1 << 10
    """Changed scrolls that wait to be told of one of these ranges; of more it is said that some
    were missed."""
    neighbours_max: int = 256
    """Peers that a node tells of; of those beyond it is sent what it has from them already."""

    @property
    def item_bytes_max(self) -> int:
        """The most that one scroll or version takes of a frame; a larger one goes in parts."""
        return self.frame_bytes_max // 2

    @property
    def frame_bytes_goal(self) -> int:
        """At so many bytes a frame is closed: what is in it by then, and an item more, fits."""
        return min(self.updates_bytes_goal, self.frame_bytes_max // 8)

    @property
    def compare_bytes_goal(self) -> int:
        """At so many bytes a message of a comparison is full, which may grow to four times that."""
        return self.frame_bytes_max // 4
