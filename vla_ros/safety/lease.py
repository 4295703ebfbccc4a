# SPDX-License-Identifier: Apache-2.0
"""Who may move the arm: one holder at a time, for a short while, renewed while wanted."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.clock import NS_PER_MS
from vla_ros.errors import SafetyError

LEASE_NS = 200 * NS_PER_MS
# Who holds authority must say so at least this often: a holder that died does not keep the arm.
KEEPALIVE_NS = 300 * NS_PER_MS
# After a restart or a freeze of the supervisor the holder's signs of life take a while to arrive.
RESTORE_NS = 3000 * NS_PER_MS
# Higher outranks lower: a person takes over from a policy, never the other way round.
INSTRUCTED = "policy"  # the source that follows instructions
RANKS = {"policy": 1, "topic": 1, "teleop": 2}


@dataclass(frozen=True)
class Lease:
    """Right of ``source`` (empty: nobody) to move the arm until ``expiry_ns``, under ``epoch``.

    ``instruction_id``: rows must be made for this instruction; 0: for any.
    """

    source: str
    epoch: int
    expiry_ns: int
    instruction_id: int = 0


class LeaseTable:
    """Grants authority.

    Guarantees: at most one holder; the epoch rises whenever the holder changes, so that what was
    made under an older authority can be told and refused.
    """

    def __init__(self, first_epoch: int = 0) -> None:
        self._holder = ""
        self._epoch = first_epoch
        self._alive_until_ns = 0
        self._renewed_ns = 0
        self._instruction_id = 0

    @property
    def holder(self) -> str:
        """Who has authority; empty for nobody."""
        return self._holder

    def claim(self, source: str, now_ns: int) -> int:
        """Give authority to ``source`` and return the epoch. Claiming again keeps it.

        Raises:
            SafetyError: if the source is unknown or somebody of higher rank holds authority.
        """
        if source not in RANKS:
            raise SafetyError(f"source must be one of {', '.join(sorted(RANKS))}, got {source!r}")
        if self._holder == source:
            self._alive_until_ns = now_ns + KEEPALIVE_NS
            return self._epoch
        if self._holder and RANKS[self._holder] > RANKS[source]:
            raise SafetyError(f"{self._holder} holds authority and outranks {source}")
        self._change(source)
        self._alive_until_ns = now_ns + KEEPALIVE_NS
        return self._epoch

    def restore(self, source: str, now_ns: int) -> None:
        """Give authority back after a restart, with time for the holder to be heard again."""
        self.claim(source, now_ns)
        self._alive_until_ns = now_ns + RESTORE_NS
        self._renewed_ns = now_ns

    def keep(self, source: str, now_ns: int) -> None:
        """Note a sign of life of the holder; nothing happens if ``source`` does not hold it."""
        if self._holder == source:
            self._alive_until_ns = now_ns + KEEPALIVE_NS

    def set_instruction(self, instruction_id: int) -> None:
        """Set the instruction in force, 0 for none; only the policy's leases name it."""
        self._instruction_id = instruction_id

    def release(self, source: str) -> None:
        """Take authority from ``source``; nothing happens if it does not hold it."""
        if self._holder == source:
            self._change("")

    def renewed(self, now_ns: int) -> Lease:
        """Return the lease to hand out at ``now_ns``; a silent holder loses authority.

        Time in which this table itself was not asked (its process was frozen) is not silence.
        """
        if now_ns - self._renewed_ns > KEEPALIVE_NS // 2:
            self._alive_until_ns = max(self._alive_until_ns, now_ns + RESTORE_NS)
        self._renewed_ns = now_ns
        if self._holder and now_ns > self._alive_until_ns:
            self._change("")
        return Lease(
            self._holder,
            self._epoch,
            now_ns + LEASE_NS if self._holder else 0,
            self._instruction_id if self._holder == INSTRUCTED else 0,
        )

    def _change(self, holder: str) -> None:
        self._holder = holder
        self._epoch += 1
