"""What a check finds, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.errors import SupervisorError
from supervisor.metadata.database import Database
from supervisor.recovery.aside import Aside
from supervisor.recovery.layout import Layout


@dataclass(frozen=True, slots=True)
class Workshop:
    """What repairs work with: the store, opened for writing, and a place for what is taken out."""

    layout: Layout
    database: Database
    aside: Aside


Mend = Callable[[Workshop], str]
"""Does the repair and says what was done; raises SupervisorError when it could not."""


@dataclass(slots=True)
class Finding:
    """One thing that is wrong. `plan` is what a repair would do, `then` what is for a person to do."""

    object: str
    problem: str
    plan: str = ""
    then: str = ""
    mend: Mend | None = None
    urgent: bool = False
    """Whether it keeps the store from being backed up; a repair of it loses nothing by itself."""
    done: str = ""
    failure: str = ""

    @property
    def left(self) -> bool:
        """Whether something has still to be done about it."""
        return not self.done or bool(self.then)

    def repair(self, workshop: Workshop) -> None:
        """Do what can be done."""
        if self.mend is not None:
            try:
                self.done = self.mend(workshop)
            except SupervisorError as error:
                self.failure = str(error)

    def line(self) -> str:
        """It on one line: the object, what is wrong, what was or would be done, what is left to do."""
        parts = [f"{self.object}: {self.problem}"]
        if self.done:
            parts.append(f"repaired: {self.done}")
        elif self.failure:
            parts.append(f"not repaired: {self.failure}")
        elif self.plan:
            parts.append(f"--repair would {self.plan}")
        if self.then:
            parts.append(f"to do: {self.then}")
        return "; ".join(parts)


@dataclass(slots=True)
class Report:
    """All that a check found, and how much it looked at."""

    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[Finding]:
        """What has still to be done something about."""
        return [finding for finding in self.findings if finding.left]

    def summary(self) -> str:
        """The last lines: what was looked at, what was found and repaired, and what else is to be known."""
        looked = ", ".join(f"{number} {what}" for what, number in self.looked_at.items())
        counts = f"{len(self.findings)} found, {len(self.findings) - len(self.left)} repaired"
        return "\n".join(
            [*self.notes, f"{counts}, {len(self.left)} left; looked at {looked or 'the file only'}"]
        )

    def as_document(self) -> dict[str, object]:
        """It as JSON has it."""
        findings = [
            {
                "object": one.object,
                "problem": one.problem,
                "plan": one.plan,
                "then": one.then,
                "done": one.done,
                "failure": one.failure,
            }
            for one in self.findings
        ]
        return {
            "findings": findings,
            "left": len(self.left),
            "looked_at": self.looked_at,
            "notes": self.notes,
        }
