# SPDX-License-Identifier: Apache-2.0
"""The fast expert: latent, its age, robot state and a fresh wrist image to rows of an action chunk.

Three steps, all trained together:

1. Where the objects are now: read from the latent, corrected by what the wrist camera sees.
2. Where to go: gates choose among those places, the hand, the reference and learned points.
3. The way there: rows are a g + b v, with g the way to the goal and v the reference's velocity.
   A planner that treats all directions alike can be written so; a and b depend on lengths and
   angles only, so a way learned once holds everywhere and ends at the goal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.learning import state_vector as sv
from vla_ros.learning.model_config import PHASES, PICK_SLOT, PLACE_SLOT, ModelConfig
from vla_ros.learning.ops import affine, attend, constant, join, perceptron
from vla_ros.learning.parameters import Shapes, Weights, linear
from vla_ros.learning.relative_rows import CHUNK_DT_NS, CHUNK_ROWS
from vla_ros.learning.trunk import PLACE_CENTRE_M, PLACE_SCALE_M
from vla_ros.learning.wrist_tower import cell_places, see_wrist, tower_shapes

if TYPE_CHECKING:
    from torch import Tensor

_AGE_FEATURES = 4
_READ = 128  # numbers taken from the latent
_QUERIES = 4  # places looked for in the wrist image
_VALUE = 16
_ANCHOR = 8  # pick x y z, cos and sin of four times its yaw, place x y z
_POINT_M = (0.31, 0.0)  # where a learned place and learned heights begin
_HEIGHTS_M = (0.085, 0.14, 0.16, 0.45)
_WAY = 64
_SPAN_S = 1e-9 * CHUNK_DT_NS * (CHUNK_ROWS - 1)
_MOST_RAD = 1.0
_OPEN_M, _CLOSED_M = 0.08, 0.01
_PLANE_Z_M = 0.02
_ANCHOR_SCALE = (0.1, 0.1, 0.1, 1.0, 1.0, 0.1, 0.1, 0.1)


CHOICES = ("places", "heights", "turns")


@dataclass(frozen=True)
class Choices:
    """Something for each of C candidates that a goal is chosen from.

    Attributes:
        places: x and y of pick, place, reference, hand, a learned place.
        heights: z of pick, reference, learned heights.
        turns: none, to a face of the cube, to its next face.
    """

    places: Tensor
    heights: Tensor
    turns: Tensor


@dataclass(frozen=True)
class ExpertOutput:
    """Rows, and what is supervised during training only.

    Attributes:
        rows: (B, H, 3) positions relative to the reference [m].
        turns: (B, H) yaw relative to the reference [rad].
        gripper: (B,) logit of "open".
        phase: (B, P) logits of the phases.
        goal: (B, 4) where to come to rest, relative to the reference [m, rad].
        gates: logits (B, C) of what the goal is chosen from.
        anchors: (B, 8) pick x, y, z [m], cosine and sine of 4 yaw, place x, y, z [m], in base.
        features: (B, hidden) what all of it was read from.
    """

    rows: Tensor
    turns: Tensor
    gripper: Tensor
    phase: Tensor
    goal: Tensor
    gates: Choices
    anchors: Tensor
    features: Tensor

    @property
    def actions(self) -> Tensor:
        """Rows as the policy's manifest describes them (B, H, 6)."""
        width = _CLOSED_M + (_OPEN_M - _CLOSED_M) * (8.0 * self.gripper).sigmoid()
        widths = width[:, None, None].expand(-1, CHUNK_ROWS, 1)
        turns = self.turns.unsqueeze(-1)
        return join([self.rows, turns.sin(), turns.cos(), widths])


def expert_shapes(config: ModelConfig) -> Shapes:
    """Return the weights of the expert."""
    c, h = config.wrist_channels, config.hidden
    wrist = _QUERIES * (2 + _VALUE + 1)
    inputs = _READ + sv.STATE_SIZE + _AGE_FEATURES + wrist + 12 + 16 + 2
    return {
        **linear("expert/read0", config.latent_size + _AGE_FEATURES, _READ),
        **linear("expert/read1", _READ, _READ),
        **linear("expert/anchors", config.latent_size + _READ, _ANCHOR, small=True),
        **tower_shapes("expert/wrist", c),
        **linear("expert/wrist/query", _READ, _QUERIES * c),
        **linear("expert/wrist/value", c, _VALUE),
        **linear("expert/correct0", wrist + sv.STATE_SIZE + 2 * _ANCHOR, 128),
        **linear("expert/correct1", 128, 128),
        **linear("expert/correction", 128, _ANCHOR, small=True),
        **linear("expert/think0", inputs, h),
        **linear("expert/think1", h, h),
        **linear("expert/think2", h, h),
        **linear("expert/gate_places", h, 5, small=True),
        **linear("expert/gate_heights", h, 2 + len(_HEIGHTS_M), small=True),
        **linear("expert/gate_turns", h, 3, small=True),
        "expert/point/b": (2,),
        "expert/heights/b": (len(_HEIGHTS_M),),
        **linear("expert/gripper", h, 1, small=True),
        **linear("expert/phase", h, len(PHASES), small=True),
        **linear("expert/way0", 6, _WAY),
        **linear("expert/way1", _WAY, _WAY),
        **linear("expert/way", _WAY, 2 * (CHUNK_ROWS - 1), small=True),
        **linear("expert/spin0", 3, _WAY),
        **linear("expert/spin1", _WAY, _WAY),
        **linear("expert/spin", _WAY, 2 * (CHUNK_ROWS - 1), small=True),
    }


def run_expert(
    p: Weights, config: ModelConfig, latent: Tensor, age_s: Tensor, state: Tensor, wrist: Tensor
) -> ExpertOutput:
    """Return the rows of a batch.

    Args:
        p: weights.
        config: sizes.
        latent: (B, T, D).
        age_s: (B, 1) time since the oldest exposure behind the latent [s]; negative: not known.
        state: (B, 24), the fields of ``state_vector``.
        wrist: (B, 3, 52, 56) in -1..1.
    """
    flat, age = latent.flatten(1), _age_features(age_s)
    read = perceptron(p, "expert/read", join([flat, age]), 2)
    scaled = (state - constant(sv.STATE_CENTRE, state)) / constant(sv.STATE_SCALE, state)
    seen = _see_wrist(p, config, wrist, read)
    anchors = _anchors(p, latent, join([flat, read]), seen, scaled)
    ref, ee = state[:, sv.REF_POSITION], state[:, sv.EE_POSITION]
    pick, place = anchors[:, :3], anchors[:, 5:]
    ways = [pick - ref, pick - ee, place - ref, place - ee]
    near = [_near(way) for way in ways]
    inputs = join([read, scaled, age, seen, *(10.0 * way for way in ways), *near, anchors[:, 3:5]])
    x = perceptron(p, "expert/think", inputs, 1)
    for i in (1, 2):
        x = x + affine(p, f"expert/think{i}", x).relu()
    gates = Choices(*(affine(p, f"expert/gate_{name}", x) for name in CHOICES))
    goal = _mixture(gates, candidates(p, anchors, state))
    rows, turns = _way(p, goal, state)
    return ExpertOutput(
        rows=rows,
        turns=turns,
        gripper=affine(p, "expert/gripper", x)[:, 0],
        phase=affine(p, "expert/phase", x),
        goal=goal,
        gates=gates,
        anchors=anchors,
        features=x,
    )


def _mixture(gates: Choices, offered: Choices) -> Tensor:
    """Return the goal (B, 4): of each, the mean of what is offered, nearly always one of it.

    Nothing is added: a hand above its goal is above what the model believes to be there.
    """
    return join(
        [
            (getattr(gates, name).softmax(dim=-1).unsqueeze(-1) * getattr(offered, name)).sum(1)
            for name in CHOICES
        ]
    )


def _age_features(age_s: Tensor) -> Tensor:
    known = (age_s >= 0.0).to(age_s.dtype)
    age = age_s.clamp(min=0.0)
    return join([known, known * age / 2.0, known * (-2.0 * age).exp(), known * (1 + age).log()])


def _see_wrist(p: Weights, config: ModelConfig, wrist: Tensor, read: Tensor) -> Tensor:
    """Return what the wrist camera sees of what the latent names: places, values, certainty."""
    cells = see_wrist(p, "expert/wrist", wrist)
    queries = affine(p, "expert/wrist/query", read).reshape(-1, _QUERIES, config.wrist_channels)
    found = attend(queries, cells, affine(p, "expert/wrist/value", cells))
    places = found.weights @ cell_places(wrist)
    return join([places, found.values, found.peak]).flatten(1)


def _anchors(p: Weights, latent: Tensor, known: Tensor, seen: Tensor, state: Tensor) -> Tensor:
    """Return where the objects are now (B, 8): as the latent says, corrected by the wrist."""
    pick, place = latent[:, PICK_SLOT, :4], latent[:, PLACE_SLOT, :2]
    centre = constant(PLACE_CENTRE_M, latent)
    height = 0.0 * pick[:, :1] + _PLANE_Z_M
    told = join(
        [
            *(centre + PLACE_SCALE_M * pick[:, :2], height, pick[:, 2:]),
            *(centre + PLACE_SCALE_M * place, height),
        ]
    )
    first = affine(p, "expert/anchors", known)
    inputs = join([seen, state, first, told])
    second = first + affine(p, "expert/correction", perceptron(p, "expert/correct", inputs, 2))
    return told + constant(_ANCHOR_SCALE, latent) * second


def candidates(p: Weights, anchors: Tensor, state: Tensor) -> Choices:
    """Return what a goal is chosen from, relative to the reference.

    Args:
        p: weights; one place and some heights are learned.
        anchors: (B, 8) where things are, as ``ExpertOutput.anchors``.
        state: (B, 24).
    """
    import torch

    ref, ee = state[:, sv.REF_POSITION], state[:, sv.EE_POSITION]
    point = (constant(_POINT_M, ref) + 0.1 * p["expert/point/b"]).expand(len(ref), 2)
    places = [anchors[:, :2], anchors[:, 5:7], ref[:, :2], ee[:, :2], point]
    heights = (constant(_HEIGHTS_M, ref) + 0.1 * p["expert/heights/b"]).expand(len(ref), -1)
    yaw = torch.atan2(state[:, sv.REF_YAW_SIN], state[:, sv.REF_YAW_COS])
    # The yaw is learned by what is said of it: its gradient through the angle has no bound.
    quadruple = anchors[:, 3:5].detach()
    face = torch.atan2(quadruple[:, 1:], quadruple[:, :1]) / 4.0
    quarter = torch.full_like(face, math.pi / 2)
    next_face = face - torch.where(face > 0.0, quarter, -quarter)
    return Choices(
        places=torch.stack(places, dim=1) - ref[:, None, :2],
        heights=join([anchors[:, 2:3], ref[:, 2:], heights]).unsqueeze(-1) - ref[:, 2:, None],
        turns=torch.stack([torch.zeros_like(yaw), face - yaw, next_face - yaw], dim=1),
    )


def _near(relative: Tensor) -> Tensor:
    """Return what matters close by of a way (B, 3) [m]: finer there, and how far sideways."""
    sideways = _length(relative[:, :2])
    return join([(relative / 0.02).tanh(), (sideways + 3e-3).log()])


def _way(p: Weights, goal: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions (B, H, 3) and turns (B, H) on the way to the goal; row 0 is zero."""
    import torch

    g, v = goal[:, :3], _SPAN_S * state[:, sv.REF_VELOCITY]
    g_len, v_len = _length(g), _length(v)
    along = (g * v).sum(dim=-1, keepdim=True) / (g_len + 1e-3)
    features = [g_len, g_len.sqrt(), v_len, along, (g_len + 2e-3).log(), (v_len - along)]
    x = perceptron(p, "expert/way", 4.0 * join(features), 2)
    a, b = affine(p, "expert/way", x).unsqueeze(-1).chunk(2, dim=1)  # (B, H - 1, 1) each
    rows = a * g.unsqueeze(1) + b * v.unsqueeze(1)
    # No row turns farther; a larger turn would be asked for too fast.
    turn, spin = goal[:, 3:].clamp(-_MOST_RAD, _MOST_RAD), _SPAN_S * state[:, sv.REF_YAW_RATE]
    x = perceptron(p, "expert/spin", join([turn.abs(), spin.abs(), turn * spin]), 2)
    a, b = affine(p, "expert/spin", x).chunk(2, dim=1)
    turns = a * turn + b * spin
    nothing = torch.zeros_like(goal[:, :1])
    return torch.cat([nothing.unsqueeze(1).expand(-1, 1, 3), rows], 1), join([nothing, turns])


def _length(x: Tensor) -> Tensor:
    # In centimetres: ONNX Runtime takes a constant of 1e-8 for zero and leaves the addition out.
    return 0.01 * ((100.0 * x).square().sum(dim=-1, keepdim=True) + 1e-4).sqrt()
