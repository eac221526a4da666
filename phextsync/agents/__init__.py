"""Agents: what agents share through scrolls, over the handles of a node.

* `memory_files`: the scrolls of a range as files in folders
* `memory_scrolls`: what these ask of handles of each kind
* `memory_commands`: what agents do with them
* `store_records`: what a memory store is, and what its numbers mean
* `memory_stores`: memories by path in stores, with their versions
* `plans`: what is asked of a node step by step, whichever way it is open
* `part_names`: what people call the parts of coordinates
* `times`: times as texts, of clocks that may say anything
* `mail_layout`: where messages stand, and how they are written
* `mail_state`: which messages of a box wait for somebody
* `mail_plans`: sending, reading and acknowledging, step by step
* `mail`: boxes and messages for programs
* `task_layout`: where tasks stand, and how they are written
* `claims`: who a task is for, as functions of texts
* `task_plans`: adding, claiming and doing tasks, step by step
* `tasks`: tasks for programs
* `voter`: votes on tasks beside a node
* `voters`: in which phexts a node votes
* `quarantine`: whose work waits, and what is accepted
"""

from phextsync.agents.mail import AsyncMail, Mail
from phextsync.agents.quarantine import AsyncQuarantine, Quarantine
from phextsync.agents.tasks import AsyncTasks, Tasks
from phextsync.agents.voter import Voter

__all__ = [
    "AsyncMail",
    "AsyncQuarantine",
    "AsyncTasks",
    "Mail",
    "Quarantine",
    "Tasks",
    "Voter",
]
