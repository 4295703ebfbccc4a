# SPDX-License-Identifier: Apache-2.0
"""The cases that ``vla-ros contact`` runs, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vla_ros.errors import ConfigError
from vla_ros.sim.contact.peg import PegRunner
from vla_ros.sim.contact.peg_task import PegResult
from vla_ros.sim.contact.wipe import WipeConfig, WipeResult, WipeRunner

WIPE_CASES = {
    "flat": WipeConfig(),
    "tilted": WipeConfig(tilt_rad=math.radians(5.0)),
    "curved": WipeConfig(surface="curved"),
    "flat/no_integral": WipeConfig(integral=False),
    "flat/friction_model": WipeConfig(integral=False, friction_share=0.8),
}


def run_case(
    task: str, case: str, seeds: Sequence[int]
) -> Iterator[tuple[int, WipeResult | PegResult]]:
    """Run the seeds of one case and give each result with its seed.

    Raises:
        ConfigError: if there is no such case.
    """
    if task == "peg":
        peg = PegRunner()
        for seed in seeds:
            yield seed, peg.run(seed, case)[0]
        return
    if case not in WIPE_CASES:
        raise ConfigError(f"case must be one of {', '.join(WIPE_CASES)}, got {case!r}")
    wipe = WipeRunner(WIPE_CASES[case])
    try:
        for seed in seeds:
            yield seed, wipe.run(seed)[0]
    finally:
        wipe.close()
