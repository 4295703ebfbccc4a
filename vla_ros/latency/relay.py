# SPDX-License-Identifier: Apache-2.0
"""What a bridge between hosts passes on: the rules of the latent buffer, without knowing the task.

The reader behind the bridge applies its own, with episode and instruction, once more.
"""

from __future__ import annotations

from collections import Counter

from vla_ros.latency.buffer import Admission, BufferContext, LatentBuffer
from vla_ros.latency.clock_domain import ClockGate
from vla_ros.types import Latent


class LatentRelay:
    """Lets latents through in order of capture, in our clock, and not after their expiry.

    Episodes and instructions only go forward: what belongs to an earlier one than the last latent
    that was passed on is dropped.

    Thread-safety: one thread.
    """

    def __init__(self, clock: ClockGate, schema_hash: int = 0) -> None:
        self._clock = clock
        self._schema_hash = schema_hash
        self._buffer = LatentBuffer(clock)
        self.counts: Counter[Admission] = Counter()

    def pass_on(self, latent: Latent, now_ns: int) -> Latent | None:
        """Return the latent as it may be passed on, or None; ``counts`` has the reason."""
        stamp, last = latent.stamp, self._buffer.context
        buffer = self._buffer
        if stamp.episode_id != last.episode_id or stamp.instruction_id != last.instruction_id:
            if stamp.episode_id < last.episode_id:
                self.counts[Admission.WRONG_EPISODE] += 1
                return None
            if stamp.episode_id == last.episode_id and stamp.instruction_id < last.instruction_id:
                self.counts[Admission.WRONG_INSTRUCTION] += 1
                return None
            # Only a latent that is good in itself moves the episode on.
            buffer = LatentBuffer(self._clock)
        buffer.set_context(
            BufferContext(
                episode_id=stamp.episode_id,
                instruction_id=stamp.instruction_id,
                schema_hash=self._schema_hash,
            )
        )
        admission = buffer.offer(latent, now_ns)
        self.counts[admission] += 1
        if admission is not Admission.ACCEPTED:
            return None
        self._buffer = buffer
        return buffer.newest_usable(now_ns)
