# SPDX-License-Identifier: Apache-2.0
"""The one kind of failure that the set-up reports to a person."""

from __future__ import annotations


class SetupError(Exception):
    """The set-up cannot go on.

    Args:
        problem: What is wrong, in one sentence.
        remedy: What the person can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
