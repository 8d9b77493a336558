"""Bounds of the transitions: of the work that one script call does, and of their times."""

from __future__ import annotations

__all__: list[str] = []

#: Batches that one call takes back, claims, lists or looks at.
REAP_BATCHES = 100
CLAIM_BATCHES = 50
UNCALLED_BATCHES = 10
COMPRESSIBLE_BATCHES = 50
LOOK_AT_BATCHES = 1_000
#: A dead letter may be in many groups, which makes it more work.
EXPIRE_BATCHES = 15
LIST_BATCHES = 1_000
LIST_GROUPS = 100

#: Periods of the history that one call reads.
HISTORY_PERIODS = 24

#: Bytes that are read of a batch at most. None is as large; what somebody else has put in its place
#: may be.
CONTENT_BYTES = 1_000_000

#: The number of the last sealed batches that are searched for a message whose reply was lost.
STORED_BATCHES = 20

#: From so many ready batches on there is a backlog, which is compressed.
BACKLOG = 50

#: Seconds from which on a retry is overdue: its task message was lost.
OVERDUE = 5.0

#: Seconds within which the delivery of a claimed batch begins, unless its claim, or the task that
#: was to deliver it, was lost or waits: then whoever can deliver takes it.
BEGIN = 0.5

#: Seconds after which a drain that has not begun is started again: the first time, and at most.
AGAIN, LONGEST = 2.0, 60.0

#: How often a batch is read anew that others have changed before some of its messages could be
#: deleted: it is compressed once, and a few operators may do the same.
FORGET_TRIES = 10

#: Kinds of messages of a dead letter, and groups of the dead letters of a source, that are told
#: apart: event names that vary must not fill Redis.
MOST_KINDS, MOST_GROUPS = 20, 500
#: Seconds for which a sealed batch is copied for those who follow a source, if they do not look
#: again; how many of the last batches they look for, as many as _keep_for_tail.lua keeps; and how
#: many they read at one look.
TAIL, TAIL_BATCHES, TAIL_LOOK = 10.0, 1_000, 50
