# SPDX-License-Identifier: Apache-2.0
"""What is minimised: distances of the rows, and what the simulation knows beside them.

Rows and goals are compared by their distance in relation to the way that is left, plus a floor:
a millimetre counts where the hand is about to close, a centimetre far from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.expert import Choices, ExpertOutput, candidates, run_expert
from vla_ros.learning.model_config import PICK_SLOT, PLACE_SLOT, ModelConfig
from vla_ros.learning.ops import images_to_float
from vla_ros.learning.parameters import Weights
from vla_ros.learning.sampling import Batch, Pointing
from vla_ros.learning.trunk import Pointed, latent_of, point, see_scene

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR_M, _FLOOR_RAD = 0.01, 0.05
_NEAR_M, _NEAR_RAD = 0.004, 0.03  # candidates that differ by less are as good
_PLACE_M = 0.03  # an error of a place that counts as one


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each part counts."""

    rows: float = setting(1.0, "positions of the rows", ge=0.0, le=100.0)
    turns: float = setting(0.3, "yaw of the rows", ge=0.0, le=100.0)
    goal: float = setting(0.5, "where the rows lead to", ge=0.0, le=100.0)
    gates: float = setting(0.3, "what the goal is chosen from", ge=0.0, le=100.0)
    gripper: float = setting(0.5, "open or closed", ge=0.0, le=100.0)
    phase: float = setting(0.1, "what the expert is doing", ge=0.0, le=100.0)
    anchors: float = setting(0.3, "where things are, as the fast half sees it", ge=0.0, le=100.0)
    places: float = setting(0.3, "where things are, as the slow half sees it", ge=0.0, le=100.0)
    cells: float = setting(0.1, "which cell shows what is named", ge=0.0, le=100.0)
    yaw: float = setting(0.2, "yaw of what to pick", ge=0.0, le=100.0)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Forward:
    """What the model says of a batch.

    Attributes:
        offered: what the goal would be chosen from if the model knew where everything is.
    """

    asked: Pointed
    other: Pointed
    expert: ExpertOutput
    offered: Choices


def run_batch(p: Weights, config: ModelConfig, batch: Batch) -> Forward:
    """Run both halves; the latent of a frame is decoded at all of its steps."""
    import torch

    scene = images_to_float(torch.from_numpy(batch.scene))
    wrist = images_to_float(torch.from_numpy(batch.wrist))
    cells = see_scene(p, config, scene)
    asked = point(p, cells, torch.from_numpy(batch.asked.tokens))
    other = point(p, cells, torch.from_numpy(batch.other.tokens))
    latent = latent_of(p, config, cells, asked, wrist)
    repeats = len(batch.age_s) // len(batch.scene)
    expert = run_expert(
        p,
        config,
        latent.repeat_interleave(repeats, dim=0),
        torch.from_numpy(batch.age_s),
        torch.from_numpy(batch.state),
        images_to_float(torch.from_numpy(batch.fast_wrist)),
    )
    with torch.no_grad():
        offered = candidates(p, torch.from_numpy(batch.anchors), torch.from_numpy(batch.state))
    return Forward(asked, other, expert, offered)


def compute_losses(forward: Forward, batch: Batch) -> dict[str, Tensor]:
    """Return the parts of the loss by the names of ``LossWeights``, unweighted."""
    import torch

    asked = _pointing_losses(forward.asked, batch.asked)
    other = _pointing_losses(forward.other, batch.other)
    parts = {name: 0.5 * (asked[name] + other[name]) for name in asked}
    gates = _gate_loss(forward.expert.gates, forward.offered, torch.from_numpy(batch.goal))
    return parts | {"gates": gates} | _expert_losses(forward.expert, batch)


def total(losses: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Return the weighted sum."""
    terms = [getattr(weights, name) * value for name, value in losses.items()]
    summed: Tensor = sum(terms[1:], start=terms[0])
    return summed


def _pointing_losses(pointed: Pointed, right: Pointing) -> dict[str, Tensor]:
    import torch
    from torch.nn.functional import cross_entropy

    slots = [PICK_SLOT, PLACE_SLOT]
    free = torch.from_numpy(right.is_free).float()
    counted = torch.stack([free, torch.ones_like(free)], dim=1)
    distance = (pointed.places[:, slots] - torch.from_numpy(right.places)).abs().sum(dim=-1)
    yaw = (pointed.yaw[:, PICK_SLOT] - torch.from_numpy(right.yaw)).abs().sum(dim=-1)
    cells = torch.from_numpy(right.cells).flatten()
    logits = pointed.logits[:, slots].flatten(0, 1)
    return {
        "places": (counted * distance / _PLACE_M).mean(),
        "cells": cross_entropy(logits, cells, ignore_index=-1),
        "yaw": (free * yaw).mean(),
    }


def _expert_losses(out: ExpertOutput, batch: Batch) -> dict[str, Tensor]:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    rows, goal = torch.from_numpy(batch.rows), torch.from_numpy(batch.goal)
    turns = torch.atan2(rows[..., 3], rows[..., 4])
    anchors, free = torch.from_numpy(batch.anchors), torch.from_numpy(batch.is_free).float()
    away = (out.anchors - anchors).abs()
    pick, yaw, place = away[:, :3].sum(-1), away[:, 3:5].sum(-1), away[:, 5:].sum(-1)
    return {
        "rows": _in_relation(out.rows - rows[..., :3], rows[:, -1:, :3], _FLOOR_M),
        "turns": _in_relation(
            (out.turns - turns).unsqueeze(-1), turns[:, -1:].unsqueeze(-1), _FLOOR_RAD
        ),
        "goal": _in_relation(out.goal[:, :3] - goal[:, :3], goal[:, :3], _FLOOR_M)
        + 0.5 * _in_relation(out.goal[:, 3:] - goal[:, 3:], goal[:, 3:], _FLOOR_RAD),
        "gripper": binary_cross_entropy_with_logits(out.gripper, torch.from_numpy(batch.opens)),
        "phase": cross_entropy(out.phase, torch.from_numpy(batch.phase)),
        "anchors": ((free * pick + place) / _PLACE_M + 0.5 * free * yaw).mean(),
    }


def _gate_loss(gates: Choices, offered: Choices, goal: Tensor) -> Tensor:
    """Return how unlikely it is that something near the right goal is chosen.

    Where several are as near, any will do; where none is near, nothing is asked.
    """
    import torch

    parts = []
    for name, right, near in (
        ("places", goal[:, :2], _NEAR_M),
        ("heights", goal[:, 2:3], _NEAR_M),
        ("turns", goal[:, 3:], _NEAR_RAD),
    ):
        away = (getattr(offered, name) - right.unsqueeze(1)).abs().sum(dim=-1)
        nearest = away.amin(dim=-1, keepdim=True)
        share = getattr(gates, name).softmax(dim=-1) * (away <= nearest + near)
        asked = (nearest[:, 0] < 3.0 * near).to(share.dtype)
        parts.append(-(asked * (share.sum(dim=-1) + 1e-6).log()).mean())
    return torch.stack(parts).sum()


def _in_relation(error: Tensor, way: Tensor, floor: float) -> Tensor:
    """Return the mean of |error| / (floor + |way|) over the last axis' sums."""
    size = error.abs().sum(dim=-1) / (floor + way.square().sum(dim=-1).sqrt())
    return size.clamp(max=20.0).mean()
