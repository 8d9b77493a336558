"""Generate docs/reference/rights.md from the buffer's scripts and the commands that Python sends.

    python docs/make_rights.py > docs/reference/rights.md

A test checks that the page is up to date.
"""

from __future__ import annotations

import sys

from celery_segment.buffer.rights import OPERATOR, PRODUCER, WORKER, Role

INTRODUCTION = """\
# Least rights

No process needs a user of the buffer's Redis who may do everything. Give each kind of process an
ACL user of its own, and put it into `SEGMENT_REDIS_URL` of these processes, such as
`redis://segment-web:PASSWORD@redis:6379/0`:

- **web**: processes that make calls. This user can neither claim nor settle batches, nor delete
  dead letters through the library. `flush()` and `stats()` need a worker's rights; pausing,
  resuming and dead letters need an operator's.
- **worker**: what delivers, and the tasks that it runs: calls, `flush()` and `stats()`.
- **operator**: every command of `celery segment`.

The broker is another matter: Celery needs a user, or rights, of its own there. As soon as the
buffer's user is not the broker's, callbacks have to be
[signed](calls.md#which-callbacks-run).

This page is generated from the scripts that run in Redis.

## Users

Paste these into `redis-cli`. In an ACL file, write `user` in place of `ACL SETUSER`.

"""

NOTES = """
- With a namespace, `~{segment:*` becomes `~{segment:NAMESPACE:*`. Without one, users can reach
  the messages of all applications in this Redis.
- In another database than 0, add `+select`.
- Without `+info`, `segment_max_memory_share` is not kept: see
  [Redis](../how-to/operating.md#redis). Without `+config|get`, `segment check` cannot read how
  durable this Redis is. Without `+scan`, it finds only sources for which a worker was started.
  `+wait` is needed with `segment_wait_replicas`.
- In a cluster, add `+cluster|slots`. A user of the Sentinels themselves needs
  `+sentinel|get-master-addr-by-name`.
- `%R~`, by which Redis 7 allows reading alone, is not enough for anyone: a key that is given to a
  script counts as written. A user who only looks at figures (`segment status`, `segment metrics`)
  needs no command that writes: `+evalsha +script|load +@read +ping +time +info`.

## When a right is missing

Redis looks up the user's rights for each command of a script. A script that lacks one would be
refused in its middle, after some of its changes, and the figures would be wrong. So before its
first change each process asks, in one round trip, whether the user may run every command of its
role:

- A call is refused as a whole, as when Redis is unavailable (`segment_on_unavailable`). One that
  raises, as it violates the tracking plan, is not counted; the log says so once in each process.
- A worker does not start, and `segment deliver` claims nothing.
- The error, and the line `rights` of `segment check`, name the commands that are missing. The
  check looks for an operator's rights, and `manage.py check --deploy` for those of a web process.

It is asked again once connections to Redis were closed, as after a refusal: when the right has been
given, calls work without a restart. It is not asked before each script. So take rights away while
the processes are stopped: otherwise one script of each process may be refused in its middle.

## Commands

Every role loads scripts with `SCRIPT LOAD` and runs them with `EVALSHA`. These are the commands
within the scripts, and those that are sent by themselves:

"""

_USERS = (("segment-web", PRODUCER), ("segment-worker", WORKER), ("segment-operator", OPERATOR))


def acl(user: str, role: Role) -> str:
    """Return the line that makes a user with the rights of a role."""
    return f"ACL SETUSER {user} reset on >PASSWORD ~{{segment:* {role.rules}"


def _users() -> str:
    return "\n".join(f"```\n{acl(user, role)}\n```\n" for user, role in _USERS)


def _table() -> str:
    names = sorted({*OPERATOR.commands, *OPERATOR.optional})
    rows = ["| command | web | worker | operator |", "|---|---|---|---|"]
    for name in names:
        cells = " | ".join(_cell(name, role) for _, role in _USERS)
        rows.append(f"| `{name.replace('|', ' ')}` | {cells} |")
    return "\n".join(rows)


def _cell(name: str, role: Role) -> str:
    if name in role.optional:
        return "optional"
    return "yes" if name in role.commands else ""


def page() -> str:
    """Return the page's text."""
    return f"{INTRODUCTION}{_users()}{NOTES}{_table()}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
