# SPDX-License-Identifier: Apache-2.0
"""The fast expert: latent, its age, robot state and a fresh wrist image to rows of an action chunk.

Three steps, all trained together:

1. Where the objects are now: read from the latent, corrected by what the wrist camera sees.
2. Where to go: a gate chooses among those places, the reference and learned points.
3. The way there: rows are a g + b v, with g the way to the goal and v the reference's velocity.
   A planner that treats all directions alike can be written so; a and b depend on lengths and
   angles only, so a way learned once holds everywhere and ends at the goal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.learning import state_vector as sv
from vla_ros.learning.model_config import PHASES, ModelConfig
from vla_ros.learning.ops import affine, attend, constant, join, perceptron
from vla_ros.learning.parameters import Shapes, Weights, linear
from vla_ros.learning.relative_rows import CHUNK_DT_NS, CHUNK_ROWS
from vla_ros.learning.wrist_tower import cell_places, see_wrist, tower_shapes

if TYPE_CHECKING:
    from torch import Tensor

_AGE_FEATURES = 4
_READ = 128  # numbers taken from the latent
_QUERIES = 4  # places looked for in the wrist image
_VALUE = 16
_ANCHOR = 8  # pick x y z, cos and sin of four times its yaw, place x y z
_CANDIDATES = 4  # pick, place, reference, a learned point
_WAY = 64
_SPAN_S = 1e-9 * CHUNK_DT_NS * (CHUNK_ROWS - 1)
_OPEN_M, _CLOSED_M = 0.08, 0.01
_ANCHOR_CENTRE = (0.48, 0.0, 0.02, 0.0, 0.0, 0.48, 0.0, 0.02)
_ANCHOR_SCALE = (0.1, 0.1, 0.1, 1.0, 1.0, 0.1, 0.1, 0.1)


@dataclass(frozen=True)
class ExpertOutput:
    """Rows, and what is supervised during training only.

    Attributes:
        rows: (B, H, 3) positions relative to the reference [m].
        turns: (B, H) yaw relative to the reference [rad].
        gripper: (B,) logit of "open".
        phase: (B, P) logits of the phases.
        goal: (B, 4) where to come to rest, relative to the reference [m, rad].
        anchors: (B, 8) pick x, y, z [m], cosine and sine of 4 yaw, place x, y, z [m], in base.
    """

    rows: Tensor
    turns: Tensor
    gripper: Tensor
    phase: Tensor
    goal: Tensor
    anchors: Tensor

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
    inputs = _READ + sv.STATE_SIZE + _AGE_FEATURES + wrist + 14
    return {
        **linear("expert/read0", config.latent_size + _AGE_FEATURES, _READ),
        **linear("expert/read1", _READ, _READ),
        **linear("expert/anchors", config.latent_size + _READ, _ANCHOR, small=True),
        **tower_shapes("expert/wrist", c),
        **linear("expert/wrist/query", _READ, _QUERIES * c),
        **linear("expert/wrist/value", c, _VALUE),
        **linear("expert/correct0", wrist + sv.STATE_SIZE + _ANCHOR, 128),
        **linear("expert/correct1", 128, 128),
        **linear("expert/correction", 128, _ANCHOR, small=True),
        **linear("expert/think0", inputs, h),
        **linear("expert/think1", h, h),
        **linear("expert/think2", h, h),
        **linear("expert/gate", h, _CANDIDATES, small=True),
        **linear("expert/gate_z", h, 2, small=True),
        **linear("expert/goal", h, 4, small=True),
        **linear("expert/turn", h, 1, small=True),
        "expert/point/b": (2,),
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
    anchors = _anchors(p, join([flat, read]), seen, scaled)
    ref, ee = state[:, sv.REF_POSITION], state[:, sv.EE_POSITION]
    pick, place = anchors[:, :3], anchors[:, 5:]
    relative = 10.0 * join([pick - ref, pick - ee, place - ref, place - ee])
    inputs = join([read, scaled, age, seen, relative, anchors[:, 3:5]])
    x = perceptron(p, "expert/think", inputs, 1)
    for i in (1, 2):
        x = x + affine(p, f"expert/think{i}", x).relu()
    goal = _goal(p, x, pick, place, ref)
    rows, turns = _way(p, goal, state)
    return ExpertOutput(
        rows=rows,
        turns=turns,
        gripper=affine(p, "expert/gripper", x)[:, 0],
        phase=affine(p, "expert/phase", x),
        goal=goal,
        anchors=anchors,
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


def _anchors(p: Weights, known: Tensor, seen: Tensor, state: Tensor) -> Tensor:
    """Return where the objects are now (B, 8), by the latent and corrected by the wrist."""
    first = affine(p, "expert/anchors", known)
    inputs = join([seen, state, first])
    second = first + affine(p, "expert/correction", perceptron(p, "expert/correct", inputs, 2))
    return constant(_ANCHOR_CENTRE, known) + constant(_ANCHOR_SCALE, known) * second


def _goal(p: Weights, x: Tensor, pick: Tensor, place: Tensor, ref: Tensor) -> Tensor:
    """Return the goal (B, 4): a mixture of known places plus what the network adds."""
    import torch

    point = (constant((0.31, 0.0), ref) + 0.1 * p["expert/point/b"]).expand(len(ref), 2)
    places = torch.stack([pick[:, :2], place[:, :2], ref[:, :2], point], dim=1)
    gate = affine(p, "expert/gate", x).softmax(dim=-1)
    added = 0.1 * affine(p, "expert/goal", x)
    sideways = (gate.unsqueeze(-1) * places).sum(dim=1) + added[:, :2] - ref[:, :2]
    # Up and down: stay at the reference's height, or one of the network's own.
    stay = affine(p, "expert/gate_z", x).softmax(dim=-1)
    height = stay[:, 1:] * (0.15 + added[:, 2:3] + added[:, 3:4] - ref[:, 2:])
    return join([sideways, height, affine(p, "expert/turn", x)])


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
    turn, spin = goal[:, 3:], _SPAN_S * state[:, sv.REF_YAW_RATE]
    x = perceptron(p, "expert/spin", join([turn.abs(), spin.abs(), turn * spin]), 2)
    a, b = affine(p, "expert/spin", x).chunk(2, dim=1)
    turns = a * turn + b * spin
    nothing = torch.zeros_like(goal[:, :1])
    return torch.cat([nothing.unsqueeze(1).expand(-1, 1, 3), rows], 1), join([nothing, turns])


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(dim=-1, keepdim=True) + 1e-8).sqrt()
