"""Chaos: producers, workers, Redis and an endpoint, and a fault every other second.

    PYTHONPATH=tests python -m chaos --seconds 600 --seed 7 --report docs/explanation/chaos.md

Ends with 0 when nothing accepted was lost, nothing arrived that was not accepted, what the
endpoint refused is dead and nothing else is, the figures add up, no request broke Segment's
limits, each volley was recovered from in time, and what was sent twice is explained by its
volley's faults. The seed decides on the faults and their order; what they hit is up to the
processes.

    PYTHONPATH=tests python -m chaos --seconds 60 --only disk

Has only the kinds of fault with that in their name.

    PYTHONPATH=tests python -m chaos --messages 1000000

Tracks so many messages instead, while a worker is killed every five seconds.

    PYTHONPATH=tests python -m chaos --topology cluster

Has other servers, and faults that fit them: a primary that Sentinels watch, a cluster of six,
RabbitMQ as the broker, or one Redis of a major version.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.director import Director
from chaos.ledger import Ledger
from chaos.settings import MANY, STEADY
from chaos.stage import Stage
from chaos.topologies import TOPOLOGIES
from support import Absent
from topologies import using_redis

#: Seconds between two kills, with ``--messages``.
KILL_EVERY = 5.0


def run(
    seconds: float, seed: int, folder: Path, topology: str = "standalone", only: str = ""
) -> Ledger:
    """Put the stage up in a folder, do faults to it for some time, and draw the ledger up.

    Raises:
        Absent: A server of the topology is not installed here.
    """
    found = TOPOLOGIES[topology]
    own, kinds = (
        [fault for fault in faults if only in fault.name] for faults in (found.own, found.faults)
    )
    with using_redis(found.major), Stage(folder, STEADY, found.servers) as stage:
        story = Director(stage, seed, kinds, own).run(seconds)
        stage.crew.stop()
        return Ledger.draw_up(stage, story)


def run_many(messages: int, seed: int, folder: Path, topology: str = "standalone") -> Ledger:
    """Have so many messages tracked and delivered while workers are killed."""
    found = TOPOLOGIES[topology]
    with using_redis(found.major), Stage(folder, MANY, found.servers, messages) as stage:
        story = Director(stage, seed, found.faults).kill_a_worker_every(KILL_EVERY)
        stage.crew.stop()
        return Ledger.draw_up(stage, story)


def put_section(page: Path, title: str, content: str) -> None:
    """Put a section at the end of a page, or in the place of the one with its title."""
    head, *sections = (page.read_text() if page.exists() else "").split("\n## ")
    section = f"{title}\n\n{content}"
    places = [n for n, each in enumerate(sections) if each.startswith(f"{title}\n")]
    if places:
        sections[places[0]] = section
    else:
        sections.append(section)
    page.write_text("\n## ".join([head, *(each.rstrip() + "\n" for each in sections)]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--messages", type=int, help="track so many, and kill workers alone")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--topology", choices=TOPOLOGIES, default="standalone")
    parser.add_argument("--only", default="", help="only kinds of fault with this in their name")
    parser.add_argument("--report", type=Path, help="a page that gets the report as a section")
    arguments = parser.parse_args()

    sys.stderr.write(f"seed {arguments.seed}\n")
    folder = Path(tempfile.mkdtemp(prefix="segment-chaos-"))
    many, topology = arguments.messages, arguments.topology
    try:
        if many:
            ledger = run_many(many, arguments.seed, folder, topology)
            what = f"{many:,} messages, a worker killed every {KILL_EVERY:g} s"
        else:
            ledger = run(arguments.seconds, arguments.seed, folder, topology, arguments.only)
            what = f"{arguments.seconds:g} s, seed {arguments.seed}"
    except Absent as absent:
        parser.error(str(absent))
    if topology != "standalone":
        what = f"{topology}: {what}"
    sys.stdout.write(f"# Chaos: {what}\n\n{ledger.as_markdown()}")
    if arguments.report:
        put_section(arguments.report, what, ledger.as_markdown())
    if ledger.ok and not ledger.notes:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"the books and logs lie in {folder}\n")
    return 0 if ledger.ok else 1


if __name__ == "__main__":
    sys.exit(main())
