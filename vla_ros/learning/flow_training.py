# SPDX-License-Identifier: Apache-2.0
"""Training of the flow head on a frozen policy: flow matching with clean prefixes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint
from vla_ros.learning.flow_config import FlowTrainingConfig
from vla_ros.learning.flow_data import (
    FlowPool,
    draw_prefix_rows,
    make_detours,
    scatter,
    spread_of,
)
from vla_ros.learning.flow_head import (
    SPREAD,
    Told,
    flow_shapes,
    network_error,
    sample,
    spread_error,
    to_actions,
    to_model,
    told_of,
)
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.optimizer import Optimizer
from vla_ros.learning.parameters import Arrays, initial_arrays, to_tensors
from vla_ros.learning.vocabulary import Vocabulary

FROZEN = "frozen"
_CHECKED = 512  # chunks that a check looks at
_CHECK_PREFIX = 6


@dataclass(frozen=True)
class TrainedPolicy:
    """A trained direct policy: weights, sizes, words."""

    weights: Arrays
    config: ModelConfig
    words: Vocabulary

    @property
    def sha256(self) -> str:
        """Hash of the weights."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode() + self.weights[name].tobytes())
        return digest.hexdigest()


class FlowTraining:
    """One run of training; the same configuration, policy and pool give the same weights.

    Args:
        config: what to do.
        policy: what the head is put on; it is not changed.
        pool: what the policy sees in demonstrations, to train on.
        checks: the same of demonstrations not trained on.
    """

    def __init__(
        self, config: FlowTrainingConfig, policy: TrainedPolicy, pool: FlowPool, checks: FlowPool
    ) -> None:
        import torch

        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(True)
        self.config = config
        self._policy, self._pool, self._checks = policy, pool, checks
        initial = initial_arrays(flow_shapes(policy.config, config.flow), config.seed)
        self._optimizer = Optimizer(initial, config.optimizer)
        self._spread = spread_of(pool, config.scatter, config.seed)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._optimizer.step

    def run(self, until: int, tell: Callable[[int, dict[str, float]], None]) -> None:
        """Train up to step ``until``; ``tell`` is handed every step and its losses."""
        c, spread = self.config, to_tensors({SPREAD: self._spread}, trained=False)
        while self.step < min(until, c.steps):
            losses = self._losses({**self._optimizer.weights, **spread}, self.step)
            norm = self._optimizer.update(losses["flow"] + losses["fit"], c.steps)
            told = {name: float(value.detach()) for name, value in losses.items()}
            tell(self.step, {"loss": told["flow"], "fit": told["fit"], "gradient": norm})

    def check(self) -> dict[str, float]:
        """Return what samples of the averaged weights are like, on demonstrations not trained on.

        row_mm: median distance of the last row from the right one, expert_mm that of the direct
        expert; spread_mm: between two samples; ahead_mm: from a scattered way of which only the
        first rows are given, free_mm without them; back_mm: from the right one after a prefix that
        led elsewhere, led_mm how far; gripper: share of right answers.
        """
        import torch

        p = to_tensors(self.weights(), trained=False)
        random = np.random.default_rng([self.config.seed, 53])
        n = min(_CHECKED, len(self._checks))
        right = self._checks.rows[:n]
        way = scatter(right, self.config.scatter, random)
        with torch.no_grad():
            base = torch.from_numpy(self._checks.base[:n])
            told = told_of(p, base, torch.from_numpy(self._checks.seen[:n]))
            begun = to_model(torch.from_numpy(way))[:, :_CHECK_PREFIX]
            led = to_model(torch.from_numpy(self._led_away(right, random)))[:, :_CHECK_PREFIX]
            one, other, ahead, back = (
                to_actions(
                    sample(p, self.config.flow, self._noise(n, random), told, prefix)
                ).numpy()
                for prefix in (None, None, begun, led)
            )
            expert = to_actions(base).numpy()
        opens = (one[:, 0, 5] > 0.045) == (right[:, 0, 5] > 0.045)
        return {
            "row_mm": _apart_mm(one, right),
            "expert_mm": _apart_mm(expert, right),
            "spread_mm": _apart_mm(one, other),
            "free_mm": _apart_mm(one, way),
            "ahead_mm": _apart_mm(ahead, way),
            "led_mm": _apart_mm(to_actions(led).numpy(), right[:, :_CHECK_PREFIX]),
            "back_mm": _apart_mm(back, right),
            "gripper": float(opens.mean()),
        }

    def weights(self) -> Arrays:
        """Return the averaged weights of the head, ``SPREAD`` among them."""
        return {**self._optimizer.averaged(), SPREAD: self._spread}

    def checkpoint(self) -> Checkpoint:
        """Return what is needed to go on, and to export: the frozen policy is in it."""
        arrays: dict[str, Any] = dict(self._optimizer.to_arrays())
        arrays |= {f"{FROZEN}:{name}": value for name, value in self._policy.weights.items()}
        arrays[f"{FROZEN}:{SPREAD}"] = self._spread
        return Checkpoint(arrays, self.step, self._settings())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: if it was made with other settings, of another policy or pool.
        """
        mine, other = self._settings(), checkpoint.settings
        differing = [name for name in mine if mine[name] != other.get(name)]
        if differing:
            raise ConfigError(
                f"the checkpoint was made with another {differing[0]}: "
                f"{other.get(differing[0])}, not {mine[differing[0]]}"
            )
        spread = checkpoint.arrays.get(f"{FROZEN}:{SPREAD}")
        if spread is None or not np.array_equal(spread, self._spread):
            raise ConfigError("the checkpoint was made of other demonstrations")
        self._optimizer.restore(checkpoint.arrays, checkpoint.step)

    def _losses(self, p: Any, number: int) -> dict[str, Any]:
        """Return the losses of batch ``number``, which depends on the seed and that alone."""
        import torch

        c = self.config
        random = np.random.default_rng([c.seed, number])
        chosen = random.integers(len(self._pool), size=c.batch)
        rows = scatter(self._pool.rows[chosen], c.scatter, random)
        usual = to_model(torch.from_numpy(rows))
        lengths = draw_prefix_rows(c.batch, c.flow.prefix_rows_max, c.delays, random)
        n_prefix = torch.from_numpy(lengths)
        clean = to_model(torch.from_numpy(make_detours(rows, lengths, c.detours, random)))
        t = torch.from_numpy(random.random((c.batch, 1), dtype=np.float32))
        noise = self._noise(c.batch, random)
        x = (1.0 - t).unsqueeze(-1) * noise + t.unsqueeze(-1) * clean
        is_prefix = torch.arange(clean.shape[1])[None] < n_prefix
        x = torch.where(is_prefix.unsqueeze(-1), clean, x)
        base = torch.from_numpy(self._pool.base[chosen])
        told = told_of(p, base, torch.from_numpy(self._pool.seen[chosen]))
        fit = spread_error(usual, told).mean()
        fixed = Told(told.base, told.spread.detach(), told.condition)
        # The way back from a detour may be many s long; it counts by its own length.
        s2 = fixed.spread.square()
        weight = s2 / (s2 + (clean - usual).square())
        error = network_error(p, clean, x, t, n_prefix, fixed)
        return {"flow": (weight * error.square()).mean(), "fit": fit}

    def _led_away(self, right: np.ndarray, random: np.random.Generator) -> np.ndarray:
        always = dataclasses.replace(self.config.detours, detour_share=1.0, slip_share=0.0)
        return make_detours(right, np.full((len(right), 1), _CHECK_PREFIX), always, random)

    def _noise(self, n: int, random: np.random.Generator) -> Any:
        import torch

        size = (n, *self._pool.base.shape[1:])
        return torch.from_numpy(random.standard_normal(size, dtype=np.float32))

    def _settings(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.config)
        settings["policy_sha256"] = self._policy.sha256
        settings["model"] = dataclasses.asdict(self._policy.config)
        settings["words"] = list(self._policy.words.words)
        # As JSON reads it back: lists for tuples.
        return dict(json.loads(json.dumps(settings)))


def _apart_mm(one: np.ndarray, other: np.ndarray) -> float:
    """Return the median distance of the last rows [mm]."""
    return 1000.0 * float(np.median(np.linalg.norm((one - other)[:, -1, :3], axis=-1)))
