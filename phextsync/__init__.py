"""Keep phexts - text in nine dimensions - the same on many machines without a server.

A map of the package, ground floor first; each room imports only rooms listed before it. A room
is a module, or a package whose first lines are its own map:

* `errors`: what is raised
* `systems`: what differs between operating systems
* `plain_files`: files that are read where they are files
* `plain_values`: JSON and TOML from elsewhere, up to a depth
* `durable_files`: files that are written whole or not at all
* `mounts`: which kind of file system a path lies on
* `terminal`: what others wrote, as a terminal may show it
* `phext_names`: which names phexts may have
* `varints`: integers of as many bytes as they need
* `inserts`: the characters that updates brought, and what they deleted
* `index`: compiled: `Coordinate`, `CoordinateRange`, `CoordinateIndex`, bytes of updates
* `ranges`: sets of ranges
* `texts`: what a scroll can hold, and what it cannot
* `prefixes`: the first numbers of a coordinate
* `phextfile`: .phext text
* `alignment`: which pieces of two sequences are equal
* `edits`: what changes one text into another
* `merges`: what two changes of one text become together
* `conflicts`: where two changes of one text met
* `steps`: what writers did to one text, to be undone and done again
* `crdt`: one scroll, a conflict-free replicated document
* `trust`: who may come into a mesh, and who may read and write what
* `placement`: which members hold which ranges, as functions of texts
* `store`: what is on disk
* `replica`: a phext as a mapping of coordinates to texts, its changes and its past
* `sync`: what two nodes say to each other until both hold the same, without IO
* `boundaries`: where an error of one part of a node stops
* `at_once`: several calls at once
* `signals`: how one task tells others that they may go on
* `sockets`: streams of bytes, in clear and under TLS
* `waiting`: connections that wait, and give way
* `framing`: frames over streams of bytes
* `transport`: TLS links between nodes
* `addresses`: where this machine and others are likeliest to be reached
* `discovery`: who may be near, and who was
* `mdns`: finding peers by multicast
* `words`: what of a text is indexed, and what a query asks
* `ranking`: the best scrolls of a search, of which few are looked at
* `search`: an index of texts, in which words are found
* `searching`: full text search over replicas
* `change_streams`: changes for trio
* `control`: the socket that other processes use, and the upkeep of a folder
* `node`: `open_node`, where all of it meets; when what changed is flushed to the disk
* `files`: bound directories: files and ranges of scrolls that are the same
* `handles`: a node behind plain calls, for any thread
* `aio`: the same for asyncio
* `agents`: what agents share through scrolls
* `gateways`: doors for clients that are not ours: HTTP, SQ, MCP, metrics
* `web`: a page and web sockets for browsers and editors
* `hosts`: adapters to programs of other people in which agents run
* `migrations`: what other programs kept, brought here
* `reporting`: measured series as tables, files and figures
* `cli`: the `phextsync` command
* `testing`: whole meshes under faults, in virtual time
"""

from phextsync import aio
from phextsync.change_streams import ChangeStream
from phextsync.errors import (
    AnswerLostError,
    ClosedError,
    ConflictError,
    CoordinateError,
    DirectoryError,
    IdentityError,
    LinkError,
    NotHeldError,
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
from phextsync.handles.blocking import Handle, open
from phextsync.handles.phexts import Phext
from phextsync.index import Coordinate, CoordinateIndex, CoordinateRange
from phextsync.node.node import Node, open_node
from phextsync.replica.changes import Change, ChangeFeed, TextChange, current_writer, writing_as
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.past import BlamedLine, DeletedScroll, LoggedChange, Version
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.replica.undo import History
from phextsync.replica.views import RangeView
from phextsync.search import Hit
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.sync.presence import PeerPresence, PresenceBoard
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.permissions import Permissions

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
    "NotHeldError",
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
    "TakenBack",
    "TextChange",
    "TextError",
    "UpdateError",
    "Version",
    "Writer",
    "__version__",
    "aio",
    "current_writer",
    "open",
    "open_node",
    "writing_as",
]
