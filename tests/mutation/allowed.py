"""The changes that may survive, each with the reason: ``allowed.yaml``.

It has a list for each file. ``before`` are the lines that are changed, joined by a space, and
``after`` is what they become; it is left out where they are dropped. ``reason`` says why no test
can notice, or need not.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from mutation.mutants import Mutant

PATH = Path(__file__).with_name("allowed.yaml")
#: The file, the lines before, and after: this lasts when lines move.
Key = tuple[str, str, str]


def key_of(mutant: Mutant) -> Key:
    return mutant.path, mutant.before, mutant.after


def read() -> dict[Key, str]:
    """Return the reasons."""
    return {
        (path, entry["before"], entry.get("after", "")): entry["reason"]
        for path, entries in (yaml.safe_load(PATH.read_text()) or {}).items()
        for entry in entries
    }


def stale(reasons: Iterable[Key], mutants: Iterable[Mutant]) -> list[Key]:
    """Return those that are no changes of the files any more."""
    made = {key_of(mutant) for mutant in mutants}
    files = {path for path, _, _ in made}
    return [key for key in reasons if key[0] in files and key not in made]
