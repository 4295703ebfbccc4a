# SPDX-License-Identifier: Apache-2.0
"""Which arms of a plan can run with the exports that are there, and which weights they have.

Reads manifests alone: no ONNX, no MuJoCo.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from vla_ros.chunking.strategies.registry import missing_ability
from vla_ros.errors import ConfigError
from vla_ros.experiments.learned_case import LearnedCase
from vla_ros.experiments.plan import LEARNED, Arm, Plan, build
from vla_ros.experiments.run import Row
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.onnx.contract import capabilities_of, model_hash


@dataclass(frozen=True)
class Availability:
    """What of a plan can be run.

    Attributes:
        plan: without the arms that cannot.
        left_out: why, by the name of the arm.
        models: hash of the weights, by the name of the arm.
    """

    plan: Plan
    left_out: dict[str, str]
    models: dict[str, str]

    def is_void(self, row: Row) -> bool:
        """Whether a run was of other weights than those that are there now."""
        wanted = self.models.get(row["arm"])
        return wanted is not None and row.get("model") != wanted


def available(plan: Plan, models: Path) -> Availability:
    """Say which arms can run with the exports below ``models``.

    Raises:
        ConfigError: if a case makes no sense.
    """
    if plan.rig != LEARNED:
        return Availability(plan, {}, {})
    left_out: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for arm in plan.arms:
        case = _case(plan, arm)
        try:
            hashes[arm.name] = _weights_for(case, models)
        except ConfigError as error:
            # Results are published: they name the export, not where it lies on this machine.
            path = str(models / case.policy)
            left_out[arm.name] = str(error).replace(path, case.policy or "of the split policy")
    arms = tuple(arm for arm in plan.arms if arm.name not in left_out)
    return Availability(dataclasses.replace(plan, arms=arms), left_out, hashes)


def _case(plan: Plan, arm: Arm) -> LearnedCase:
    values = plan.case_values(plan.cells[0], arm, 0)
    values.pop("settings", None)
    case: LearnedCase = build(LearnedCase, values)
    return case


def _weights_for(case: LearnedCase, models: Path) -> str:
    """Return the hash of the weights of a case.

    Raises:
        ConfigError: if there is no such export, or it cannot serve the strategy.
    """
    folder = open_policy(models / case.policy)
    able = capabilities_of(folder.manifest)
    if case.whole or folder.manifest.kind is Kind.CHUNK:
        able = dataclasses.replace(able, has_split_latent=False)
    if case.told_ages == "none" and not able.has_age_input:
        raise ConfigError(f"{case.policy or folder.manifest.name} is not told an age anyway")
    if missing := missing_ability(case.strategy, able):
        raise ConfigError(f"{case.policy or folder.manifest.name}: {case.strategy} needs {missing}")
    return f"{model_hash(folder):016x}"
