"""What a run found: as JSON, and to be read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mutation.mutants import Mutant


@dataclass(frozen=True)
class Result:
    """What became of a mutant: killed, timeout, survived or allowed."""

    mutant: Mutant
    outcome: str
    seconds: float = 0.0
    #: Why it may live, or how it was killed.
    why: str = ""

    def as_json(self) -> dict:
        mutant = self.mutant
        return {
            "file": mutant.path,
            "line": mutant.line,
            "operator": mutant.operator,
            "before": mutant.before,
            "after": mutant.after,
            "outcome": self.outcome,
            "seconds": self.seconds,
            "why": self.why,
        }


def as_markdown(title: str, results: list[Result], counts: dict[str, int]) -> str:
    """Return the score of each file, and the changes that no test noticed.

    The score is how many of the tested mutants were killed, those left out that may live.
    """
    lines = [f"# Mutation: {title}", "", "| file | mutants | tested | survived | score |"]
    lines.append("|---|---:|---:|---:|---:|")
    tested: dict[str, Counter] = {}
    for result in results:
        tested.setdefault(result.mutant.path, Counter())[result.outcome] += 1
    for path, outcomes in sorted(tested.items()):
        lines.append(f"| {path} | {counts[path]} | {_row(outcomes)} |")
    everything = sum(tested.values(), Counter())
    lines += [f"| all | {sum(counts.values())} | {_row(everything)} |", ""]
    for result in sorted(results, key=lambda result: (result.mutant.path, result.mutant.line)):
        if result.outcome == "survived":
            mutant = result.mutant
            lines += [f"## {mutant.path}:{mutant.line}, {mutant.operator}", ""]
            lines += ["```diff", mutant.diff, "```", ""]
    return "\n".join(lines)


def _row(outcomes: Counter) -> str:
    lives, dies = outcomes["survived"], outcomes["killed"] + outcomes["timeout"]
    score = f"{100 * dies / (lives + dies):.0f} %" if lives + dies else "-"
    return f"{lives + dies} | {lives} | {score}"


def write(folder: Path, title: str, results: list[Result], counts: dict[str, int]) -> str:
    """Write ``report.json`` and ``report.md``; return the latter."""
    text = as_markdown(title, results, counts)
    found = [result.as_json() for result in results]
    (folder / "report.json").write_text(json.dumps(found, indent=1, ensure_ascii=False))
    (folder / "report.md").write_text(text)
    return text
