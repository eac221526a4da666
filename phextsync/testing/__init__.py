"""Simulate meshes of nodes under faults, in virtual time, from one seed.

A map of the package; each module imports only those before it:

* `faults`: what can go wrong, as data
* `paths`: when what one node sends arrives at another
* `metrics`: what a run cost
* `disks`: what is on a simulated disk
* `inodes`: inodes of a disk in memory, and what is left of them when the power goes
* `memory_disk`: files in memory as the system has them
* `filesystem`: what a bound directory asks of a file system, on such a disk
* `acceptance`: what every store, network, discovery and file system must do
* `visits`: what users read and write where their node does not hold it
* `territory`: what each node holds, may read and may write
* `oracle`: what must hold, remembered without the library's own bookkeeping
* `mesh`: what workloads need of the nodes, simulated or real
* `trace`: what happened in a run, as lines and as one digest
* `stage`: virtual time, and what was done in it and at what cost
* `simulated_node`: the real core, replica and index of one node over a simulated disk
* `wires`: the links of simulated nodes
* `wishes`: what users say of what is held and placed
* `agreement`: whether nodes have what others have that hold the same
* `world`: many of them, their users and their faults
* `trio_time`: trio in virtual time
* `network`: hosts that dial, listen and hear of each other in memory
* `memory_links`: the links of a node on such a host
* `memory_discovery`: sightings between them
* `memory_machine`: what exists of a node there before, between and after its lives
* `memory`: the real `Node`, many of them over that network, in virtual time
* `workloads`: what users of the nodes do, as data
"""

from phextsync.testing.faults import (
    Action,
    Clone,
    Crash,
    Damage,
    Deafen,
    Fault,
    FillDisk,
    Follow,
    Forget,
    FreeDisk,
    Garbage,
    HalfOpen,
    Hold,
    Partition,
    Regions,
    Repair,
    Reset,
    Restart,
    SetClock,
    SetCopies,
    SetHeld,
    SetPace,
    SetRule,
    Shape,
    Sleep,
    Tear,
    faults_from_json,
    faults_to_json,
)
from phextsync.testing.memory import MemoryMesh
from phextsync.testing.mesh import PHEXT, Editor, Mesh
from phextsync.testing.metrics import Metrics
from phextsync.testing.oracle import Oracle, Violation
from phextsync.testing.workloads import Workload
from phextsync.testing.world import World

__all__ = [
    "PHEXT",
    "Action",
    "Clone",
    "Crash",
    "Damage",
    "Deafen",
    "Editor",
    "Fault",
    "FillDisk",
    "Follow",
    "Forget",
    "FreeDisk",
    "Garbage",
    "HalfOpen",
    "Hold",
    "MemoryMesh",
    "Mesh",
    "Metrics",
    "Oracle",
    "Partition",
    "Regions",
    "Repair",
    "Reset",
    "Restart",
    "SetClock",
    "SetCopies",
    "SetHeld",
    "SetPace",
    "SetRule",
    "Shape",
    "Sleep",
    "Tear",
    "Violation",
    "Workload",
    "World",
    "faults_from_json",
    "faults_to_json",
]
