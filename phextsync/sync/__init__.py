"""Sync: what two nodes say to each other until both hold the same. Without IO.

* `limits`: every size that a peer could otherwise choose
* `messages`: what a frame may say
* `fields`: a frame as one array, and its items taken in order, each checked
* `codec_of_questions`: how what a peer is asked to be shown is written and read
* `codec`: how messages are written as frames, and read
* `reconcile`: what differs between two indexes, by ranges
* `sketch`: few differences between two indexes, in one round trip
* `comparison`: the turns of two nodes until both know what differs
* `presence`: who is there, and what each node tells of itself
* `timing`: how often a node does what, and when it gives up
* `listener`: whom the core tells while it works
* `clock`: the time that the core was told, and when it wants to be told again
* `traffic`: what is counted of a link
* `outbox`: short messages that wait for a link
* `heartbeat`: whether a peer still lives
* `waiting`: what a second link of a node brings until it is known whether it stays
* `rights`: what each side of a link may be shown, may send and takes
* `scope`: what both sides of a link hold, and that nothing is noted of the rest
* `ledger`: which frames of updates are on whose disk
* `promises`: what each side of a link gives up, and what the other keeps of that
* `recent`: the updates that took effect last
* `durable_first`: changes that peers hear of when they are on our disk
* `news`: which phexts have changed, and whether that is durable
* `refusals`: what a peer does not take from us
* `requests`: what we ask a peer for, and what it has not yet answered
* `had`: which versions nodes had of scrolls, told ahead of updates
* `outgoing`: which updates to send on a link, and in which turn
* `branch`: a link as part of the tree, and what its peer has that we did not push
* `tree`: which links get an update at once where nodes are not all linked
* `late`: what a comparison brought before the tree did
* `lazy`: what a peer gets from others in place of us
* `shown_changes`: the peer of a link is told what changes where it does not hold it
* `assembly`: entries that are larger than a frame, put together
* `asked`: what a peer was asked to be shown of what it holds and we do not
* `hosting`: what a peer asks to be shown of what we hold and it does not
* `incoming`: the updates that a peer sends: merged, refused, or incomplete
* `versions`: what a peer's version of a scroll tells beside ours
* `announcements`: which phexts both sides of a link have told of
* `session`: what is known of one comparison
* `audits`: comparisons that read every entry, and how many are allowed
* `findings`: what a comparison found becomes requests and updates
* `comparisons`: when a link compares which phext
* `link`: all that the core keeps of one link
* `relay`: which links get an update that took effect here
* `lacks`: what the peers have on their disks, and what they lack
* `leaving`: ranges that this node gives up, and when it may drop them
* `questions`: which peers are asked that hold what we do not
* `fetching`: scrolls that are not held here become guests
* `surveying`: what there is in a range that is not held here
* `working_out`: what a holder works out of what it holds
* `watching`: changes in ranges that are not held here
* `elsewhere`: all kinds of questions to those that hold what we do not
* `replica_events`: what follows from what happens to replicas
* `doubles`: which of two links to one node stays
* `events`: who has come and gone
* `greeting`: what two nodes tell each other first
* `synchronizer`: the core of a node: its doors, and what to say to each peer
"""
