# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run of a fuzz target found."""

import json
import traceback
from collections import Counter
from dataclasses import dataclass, field

HANG_S = 1.0
_KEPT = 20


@dataclass(slots=True)
class Findings:
    """Counts of outcomes, and what must not be, with the case that shows it."""

    target: str
    seed: int
    cases: int = 0
    mutated: int = 0  #: answers that were not what the device would have said
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)  #: by kind: the first case that shows it
    problem_count: int = 0

    def note(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def problem(self, case: int, kind: str, what: str) -> None:
        self.problem_count += 1
        if len(self.problems) < _KEPT:
            again = f"python -m tests.fuzz --target {self.target} --seed {self.seed} --only {case}"
            self.problems.setdefault(kind, f"{what}\n    again: {again}")

    def crash(self, case: int, why: BaseException) -> None:
        place = traceback.extract_tb(why.__traceback__)[-1]
        kind = f"{type(why).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}"
        last = "".join(traceback.format_exception(why)[-4:])
        self.problem(case, kind, f"{kind}: {last.strip()[-800:]}")

    def summary(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        head = f"{self.target}: {self.cases:,} cases, {self.mutated:,} mutated answers"
        return f"{head} (seed {self.seed}): {found or 'nothing'}"

    def as_line(self) -> str:
        told = {
            "target": self.target,
            "seed": self.seed,
            "cases": self.cases,
            "mutated": self.mutated,
            "outcomes": dict(self.outcomes),
            "problems": self.problems,
            "problem_count": self.problem_count,
        }
        return json.dumps(told)
