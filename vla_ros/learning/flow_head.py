# SPDX-License-Identifier: Apache-2.0
"""The flow head: from noise to what may be done next, given what the direct expert makes of it all.

Flow time t runs from noise (0) to rows (1), x = (1 - t) x0 + t x1, rows in model space (H, A). The
network says which clean rows D to expect, and v = (D - x) / (1 - t). With the expert's rows b and
how far right ones are expected to lie from them, s (H, A), which is read from what is seen:

    q = x - t b,    n^2 = t^2 s^2 + (1 - t)^2
    D = b + t s^2 q / n^2 + (1 - t) s / n F(q / n, t, condition)

F = 0 is right for labels N(b, s^2), row by row; the network adds what rows have to do with each
other and what may be done instead. Rows of a prefix are clean: for them t = 1, hence D = x.

Sources: flow matching, arXiv 2210.02747; preconditioning, arXiv 2206.00364; a prefix at time 1,
arXiv 2512.05964.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.learning import state_vector as sv
from vla_ros.learning.expert import CHOICES, ExpertOutput
from vla_ros.learning.flow_config import FlowConfig
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.ops import affine, constant, join, perceptron
from vla_ros.learning.parameters import Shapes, Weights, linear
from vla_ros.learning.relative_rows import ACTION_SIZE, CHUNK_ROWS

if TYPE_CHECKING:
    from torch import Tensor

# Model space: action = mean + scale x. A unit is what rows may differ by: 2 cm, 0.1 rad, half of
# the gripper's way. Fixed numbers of the task, as those of ``state_vector``.
MEAN = (0.0, 0.0, 0.0, 0.0, 1.0, 0.045)
SCALE = (0.02, 0.02, 0.02, 0.1, 0.1, 0.035)

SPREAD = "flow/usual"  # s on average: measured on the demonstrations, not trained
_VALUES = CHUNK_ROWS * ACTION_SIZE
_GATES = 5 + 6 + 3
_TIMES = 3
_LINEAR = 10.0  # what the network is handed grows by its logarithm beyond
_LEFT = 1e-3  # smallest 1 - t that is divided by
_SEEN, _TIME = 64, 32
_LEAST, _MOST = 0.005, 3.0  # of s


@dataclass(frozen=True)
class Told:
    """What the head goes by in a call; computed once.

    Attributes:
        base: (B, H, A) b, the expert's rows.
        spread: (B, H, A) s, how far right rows are expected to lie from them.
        condition: (B, C) the rest.
    """

    base: Tensor
    spread: Tensor
    condition: Tensor

    def repeated(self, n: int) -> Told:
        """Return the same for n samples of one call."""
        parts = (self.base, self.spread, self.condition)
        return Told(*(part.expand(n, *part.shape[1:]) for part in parts))


def flow_shapes(config: ModelConfig, flow: FlowConfig) -> Shapes:
    """Return the weights of the head."""
    h, seen = flow.flow_hidden, config.hidden + 4 + _GATES + sv.STATE_SIZE + _VALUES
    return {
        **linear("flow/see0", seen, _SEEN),
        **linear("flow/condition", _SEEN, flow.condition),
        **linear("flow/spread", flow.condition, _VALUES, small=True),
        **linear("flow/in", _VALUES + CHUNK_ROWS + _TIMES + flow.condition, h),
        **linear("flow/time0", _TIMES, _TIME),
        **linear("flow/time", _TIME, 2 * h, small=True),
        **linear("flow/mid0", h, h),
        **linear("flow/mid1", h, h),
        **linear("flow/out", h, _VALUES, small=True),
    }


def to_model(actions: Tensor) -> Tensor:
    """Return actions (..., A) in model space."""
    return (actions - constant(MEAN, actions)) / constant(SCALE, actions)


def to_actions(x: Tensor) -> Tensor:
    """Return rows of model space (..., A) as actions."""
    return constant(MEAN, x) + constant(SCALE, x) * x


def seen_by_flow(out: ExpertOutput, state: Tensor) -> Tensor:
    """Return what the head may know (B, N): the expert's features, goal, gates, rows, the state."""
    scaled = (state - constant(sv.STATE_CENTRE, state)) / constant(sv.STATE_SCALE, state)
    gates = [getattr(out.gates, name) for name in CHOICES]
    rows = 0.2 * to_model(out.actions).flatten(1)
    return join([out.features, 10.0 * out.goal, *gates, scaled, rows])


def condition_of(p: Weights, seen: Tensor) -> Tensor:
    """Return the condition (B, C) of what is seen (B, N)."""
    return affine(p, "flow/condition", perceptron(p, "flow/see", seen, 1)).tanh()


def told_of(p: Weights, base: Tensor, seen: Tensor) -> Told:
    """Return what the head goes by, of the expert's rows (B, H, A) and what is seen (B, N)."""
    condition = condition_of(p, seen)
    more = affine(p, "flow/spread", condition).reshape(base.shape)
    return Told(base, (p[SPREAD] * more.exp()).clamp(min=_LEAST, max=_MOST), condition)


def clean_rows(p: Weights, x: Tensor, t: Tensor, n_prefix: Tensor, told: Told) -> Tensor:
    """Return the clean rows D (B, H, A) to expect.

    Args:
        p: weights.
        x: (B, H, A), rows under way; those of the prefix are clean.
        t: (B, 1), flow time.
        n_prefix: (B, 1) int64, number of clean rows.
        told: what is known.
    """
    q, scale, left = _scaled(x, t, n_prefix, told)
    inner, s = network(p, q / scale, t, n_prefix, told.condition), told.spread
    return told.base + (1.0 - left) * s.square() * q / scale.square() + left * s / scale * inner


def velocity(p: Weights, x: Tensor, t: Tensor, n_prefix: Tensor, told: Told) -> Tensor:
    """Return dx/dt (B, H, A), zero for rows of the prefix; arguments of ``clean_rows``."""
    away = clean_rows(p, x, t, n_prefix, told) - x
    free = 1.0 - prefix_mask(n_prefix, x)
    return free * away / (1.0 - t).clamp(min=_LEFT).unsqueeze(-1)


def sample(
    p: Weights,
    flow: FlowConfig,
    noise: Tensor,
    told: Told,
    prefix: Tensor | None = None,
) -> Tensor:
    """Return rows in model space (B, H, A) made of noise; they begin with a prefix (B, n, A)."""
    import torch

    n = 0 if prefix is None else prefix.shape[1]
    n_prefix = torch.full((len(noise), 1), n, dtype=torch.int64)
    x = noise if prefix is None else torch.cat([prefix, noise[:, n:]], dim=1)
    for step in range(flow.denoising_steps):
        t = torch.full((len(noise), 1), step / flow.denoising_steps, dtype=noise.dtype)
        x = x + velocity(p, x, t, n_prefix, told) / flow.denoising_steps
    return x


def network_error(
    p: Weights, clean: Tensor, x: Tensor, t: Tensor, n_prefix: Tensor, told: Told
) -> Tensor:
    """Return how far F (B, H, A) is from what makes D the rows ``clean``; 0 for a prefix."""
    q, scale, left = _scaled(x, t, n_prefix, told)
    inner, s = network(p, q / scale, t, n_prefix, told.condition), told.spread
    rest = clean - told.base - (1.0 - left) * s.square() * q / scale.square()
    free = 1.0 - prefix_mask(n_prefix, x)
    return free * (inner - rest * scale / (left.clamp(min=_LEFT) * s))


def spread_error(clean: Tensor, told: Told) -> Tensor:
    """Return how badly s fits (B, H, A): the negative log likelihood of N(b, s^2)."""
    return 0.5 * ((clean - told.base) / told.spread).square() + told.spread.log()


def network(p: Weights, u: Tensor, t: Tensor, n_prefix: Tensor, condition: Tensor) -> Tensor:
    """Return F (B, H, A)."""
    from torch.nn.functional import silu

    # What lies far off, as a prefix of a plan that was wrong, counts by its order of magnitude.
    told = (_LINEAR * (u / _LINEAR).asinh()).flatten(1)
    clean = prefix_mask(n_prefix, u).squeeze(-1)
    times = join([t, t.square(), ((1.0 - t + 0.01) / (t + 0.01)).log()])
    # What a deviation means depends on the time: it is noise first and a way to go in the end.
    gains = affine(p, "flow/time", silu(affine(p, "flow/time0", times))).chunk(2, dim=-1)
    y = silu(affine(p, "flow/in", join([told, clean, times, condition])))
    for i, gain in enumerate(gains):
        y = y + silu(affine(p, f"flow/mid{i}", (1.0 + gain) * y))
    return affine(p, "flow/out", y).reshape(-1, CHUNK_ROWS, ACTION_SIZE)


def prefix_mask(n_prefix: Tensor, like: Tensor) -> Tensor:
    """Return 1 for rows of the prefix, 0 for the rest (B, H, 1)."""
    import torch

    return (torch.arange(CHUNK_ROWS)[None] < n_prefix).to(like.dtype).unsqueeze(-1)


def _scaled(x: Tensor, t: Tensor, n_prefix: Tensor, told: Told) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, n (B, H, A) and 1 - t (B, H, 1) with the time of each row."""
    left = (1.0 - t).unsqueeze(-1) * (1.0 - prefix_mask(n_prefix, x))
    scale = ((1.0 - left).square() * told.spread.square() + left.square()).sqrt()
    return x - (1.0 - left) * told.base, scale, left
