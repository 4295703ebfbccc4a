# SPDX-License-Identifier: Apache-2.0
"""Run every check on a backend.

subject = SplitBackend("mine", MySlowPolicy, MyFastPolicy)
report = check_backend(subject, Samples(observations=..., other_instruction="..."))
assert report.passed, report.text()
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.errors import ConfigError
from vla_ros.policies.conformance.checks import CHECKS
from vla_ros.policies.conformance.subject import Samples, Subject


@dataclass(frozen=True)
class CheckResult:
    """What came of one check; ``problem`` is empty if it passed."""

    check: str
    problem: str

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.problem


@dataclass(frozen=True)
class ConformanceReport:
    """What came of all checks of one backend."""

    backend: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> dict[str, str]:
        """What was found, by check."""
        return {r.check: r.problem for r in self.results if not r.passed}

    def text(self) -> str:
        """Return a line per check for people."""
        lines = [f"{self.backend}: {len(self.results)} checks, {len(self.failures)} failed"]
        lines += [f"  {r.check}: {r.problem or 'passed'}" for r in self.results]
        return "\n".join(lines)


def check_backend(
    subject: Subject, samples: Samples, only: Iterable[str] | None = None
) -> ConformanceReport:
    """Run the checks, all or those named.

    A check that raises has failed: a backend must not raise on valid observations.

    Raises:
        ConfigError: if there is no check of a name.
    """
    names = tuple(CHECKS) if only is None else tuple(only)
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise ConfigError(f"check must be one of {', '.join(CHECKS)}, got {unknown[0]!r}")
    return ConformanceReport(
        subject.name, tuple(CheckResult(name, _run(name, subject, samples)) for name in names)
    )


def _run(name: str, subject: Subject, samples: Samples) -> str:
    try:
        return CHECKS[name](subject, samples)
    except Exception as error:  # whatever it is, it is what the check found
        return f"raised {type(error).__name__}: {error}"
