"""Keep phexts - text in nine dimensions - the same on many machines without a server.

A map of the package, ground floor first; each room imports only rooms listed before it:

* `errors`: what is raised
* `durable_files`: files that are written whole or not at all
* `terminal`: what others wrote, as a terminal may show it
* `durations`: how long things took
* `index`: compiled: `Coordinate`, `CoordinateRange`, `CoordinateIndex`, bytes of updates
* `permissions`: which ranges of which phexts a node may read and write
* `phextfile`: .phext text
* `messages`: the wire's vocabulary and limits
* `identity`: mesh keys, certificates, join codes
* `alignment`: which pieces of two sequences are equal
* `edits`: what changes one text into another
* `conflicts`: where two changes of one text met
* `crdt`: one scroll, a conflict-free replicated document
* `retention`: where history is kept and for how long
* `pages`: an LMDB file without LMDB, damaged or not
* `records`: databases, keys and checksums of a data folder
* `rebuild`: a new data file from an old one
* `folder`: the files of a data folder
* `store`: what is on disk
* `snapshot`: what a folder holds at one moment, read beside whoever writes
* `history`: what was written when, and by whom
* `changes`: what happened to texts, and who did it
* `views`: a range of a phext as a mapping
* `replica`: a phext as a mapping of coordinates to texts
* `sq`: SQ's REST API over replicas, without IO
* `reconcile`: what differs between two indexes, by ranges
* `sketch`: few differences between two indexes, in one round trip
* `comparison`: the turns of two nodes until both know what differs
* `presence`: who is there, and what each node tells of itself
* `protocol`: what to say to each peer, without IO
* `boundaries`: where an error of one part of a node stops
* `transport`: frames over TLS
* `addresses`: where this machine and others are likeliest to be reached
* `discovery`: finding peers
* `membership`: whom this node knows by which name, and whom it lets in
* `invitation`: how a new machine gets its certificate from the administrator's node
* `search`: full text search over replicas
* `streams`: changes for trio
* `control`: operations that other processes ask of a node
* `upkeep`: checking, repairing, backing up and restoring a data folder
* `node`: `open_node`, where all of it meets
* `metrics`: what Prometheus reads of a node
* `guard`: which requests the HTTP doors let in
* `http1`: HTTP/1.1 connections and their limits
* `gateway`: HTTP: SQ's API, changes, metrics, health
* `files`: directories and ranges of scrolls that are the same
* `attach`: one process at a folder: it runs the node, or asks the one that does
* `embed`: `open`, the same for any thread
* `aio`: the same for asyncio
* `agent`: what a language model may ask of scrolls
* `mcp_server`: the same as a server of the Model Context Protocol
* `importing`: a note that an import has begun, until it has ended
* `cli_common`: what all commands have in common
* `membership_cli`: the commands about who belongs to a mesh
* `files_cli`: the commands about bound directories
* `past_cli`: the commands about the past of scrolls
* `reporting`: measured series as tables, files and figures
* `measure`: what a running node measures of its mesh
* `scrolls_cli`: the commands that read and write scrolls
* `node_cli`: the commands that run this node and say how it is
* `folder_cli`: the commands that keep the data folder
* `cli`: the `phextsync` command
* `testing`: whole meshes under faults, in virtual time
"""

from phextsync import aio
from phextsync.changes import Change, ChangeFeed, TextChange, current_writer, writing_as
from phextsync.embed import Handle, Phext, open
from phextsync.errors import (
    AnswerLostError,
    ClosedError,
    ConflictError,
    CoordinateError,
    DirectoryError,
    IdentityError,
    LinkError,
    NotSyncedError,
    PermissionDeniedError,
    PhextFileError,
    PhextsyncError,
    PositionError,
    ProtocolError,
    ScrollError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    TextError,
    UpdateError,
)
from phextsync.history import BlamedLine, DeletedScroll, LoggedChange, Version
from phextsync.identity import MeshKey, NodeIdentity
from phextsync.index import Coordinate, CoordinateIndex, CoordinateRange
from phextsync.node import Node, open_node
from phextsync.permissions import Permissions
from phextsync.presence import PeerPresence, PresenceBoard
from phextsync.replica import History, HistorySetting, Replica, ReplicaSet
from phextsync.search import Hit
from phextsync.store import LmdbStore, MemoryStore
from phextsync.streams import ChangeStream
from phextsync.views import RangeView

__version__ = "0.1.0"

__all__ = [
    "AnswerLostError",
    "BlamedLine",
    "Change",
    "ChangeFeed",
    "ChangeStream",
    "ClosedError",
    "ConflictError",
    "Coordinate",
    "CoordinateError",
    "CoordinateIndex",
    "CoordinateRange",
    "DeletedScroll",
    "DirectoryError",
    "Handle",
    "History",
    "HistorySetting",
    "Hit",
    "IdentityError",
    "LinkError",
    "LmdbStore",
    "LoggedChange",
    "MemoryStore",
    "MeshKey",
    "Node",
    "NodeIdentity",
    "NotSyncedError",
    "PeerPresence",
    "PermissionDeniedError",
    "Permissions",
    "Phext",
    "PhextFileError",
    "PhextsyncError",
    "PositionError",
    "PresenceBoard",
    "ProtocolError",
    "RangeView",
    "Replica",
    "ReplicaSet",
    "ScrollError",
    "StoreDamagedError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreVersionError",
    "TextChange",
    "TextError",
    "UpdateError",
    "Version",
    "__version__",
    "aio",
    "current_writer",
    "open",
    "open_node",
    "writing_as",
]
