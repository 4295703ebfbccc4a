# SPDX-License-Identifier: Apache-2.0
"""Does a policy read its instruction? Blank it, change it, and see whether the rows change.

    divergence = mean over observations and rows of |p(text) - p(original)|   [m]
    floor      = the same for the original text, asked of another new instance

A policy whose rows move no more than its own scatter, whatever it is told, ignores language. What
refuses a blank text reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_ros.errors import InstructionError
from vla_ros.policies.conformance.subject import Samples, Subject
from vla_ros.types import ActionChunk, Observation


@dataclass(frozen=True, kw_only=True)
class LanguageProbe:
    """How far rows move when only the words change [m].

    Attributes:
        blank_m: with a blank instruction; infinite if it was refused.
        other_m: with another instruction.
        floor_m: with the same one.
        threshold_m: below it, and below three times the floor, words change nothing.
    """

    blank_m: float
    other_m: float
    floor_m: float
    threshold_m: float

    @property
    def ignores_language(self) -> bool:
        """Whether another instruction and a blank one leave the rows as they are."""
        return max(self.blank_m, self.other_m) <= max(self.threshold_m, 3.0 * self.floor_m)

    def text(self) -> str:
        """Return a sentence for people."""
        verdict = "ignores language" if self.ignores_language else "reads language"
        return (
            f"{verdict}: rows move by {1000 * self.blank_m:.1f} mm without words, "
            f"{1000 * self.other_m:.1f} mm with others, {1000 * self.floor_m:.1f} mm by themselves"
        )


def probe_language(subject: Subject, samples: Samples, threshold_m: float = 0.002) -> LanguageProbe:
    """Ask new instances the same with the words as they are, blank and others.

    The number of the instruction stays the same: a policy that looks at it alone ignores language.
    """
    own = samples.observations[0].instruction
    return LanguageProbe(
        blank_m=_divergence_m(subject, samples, ""),
        other_m=_divergence_m(subject, samples, samples.other_instruction),
        floor_m=_divergence_m(subject, samples, own),
        threshold_m=threshold_m,
    )


def _divergence_m(subject: Subject, samples: Samples, text: str) -> float:
    distances = []
    for observation in samples.observations:
        original = subject.start().answer(observation)
        try:
            changed = _told(subject, observation, text)
        except InstructionError:
            return float("inf")
        distances.append(np.linalg.norm(changed.positions - original.positions, axis=1).mean())
    return float(np.mean(distances))


def _told(subject: Subject, observation: Observation, text: str) -> ActionChunk:
    return subject.start().answer(replace(observation, instruction=text))
