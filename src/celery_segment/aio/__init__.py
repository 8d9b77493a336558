"""Run the same code for callers that may block and for callers on an event loop.

What stores a message decides a great deal: which connection, which server, whether a command that
was not answered may be sent again, what is dropped or spilled. None of it knows who waits. It is
given ``Waits``, by which it waits for locks, for time and for files, and a socket to read from:

- A blocking caller waits in its thread.
- On an event loop the code runs in a greenlet (``run``). Where it would wait, the greenlet is left,
  and its caller's task awaits; so the loop goes on, and a cancelled task raises in that place. It
  is how SQLAlchemy runs on asyncio. No thread is involved.
"""
