# SPDX-License-Identifier: Apache-2.0
"""Joint training of both halves: steps, what is measured beside them, and how to go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint
from vla_ros.learning.dataset import Dataset
from vla_ros.learning.losses import compute_losses, run_batch, total
from vla_ros.learning.metrics import measure
from vla_ros.learning.model import initial_weights
from vla_ros.learning.optimizer import Optimizer
from vla_ros.learning.parameters import Arrays, to_tensors
from vla_ros.learning.sampling import Batch, BatchSampler
from vla_ros.learning.training_config import TrainingConfig
from vla_ros.learning.vocabulary import Vocabulary, default_vocabulary

_CHECK_STREAM = 10**9  # batches to check on are drawn with seeds of their own


class Training:
    """One run of training; the same configuration and demonstrations give the same weights.

    Args:
        config: what to do.
        data: the demonstrations.

    Raises:
        ConfigError: if the vocabulary does not fit the model.
    """

    def __init__(self, config: TrainingConfig, data: Dataset) -> None:
        import torch

        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(True)
        self.config = config
        self.vocabulary: Vocabulary = default_vocabulary()
        if len(self.vocabulary.words) > config.model.vocabulary:
            raise ConfigError(f"the task has {len(self.vocabulary.words)} words, too many")
        kept, checked = split_episodes(len(data), config.check_share, config.seed)
        self._sampler = BatchSampler(data, kept, self.vocabulary, config.sampling, config.seed)
        self._checks = self._check_batches(data, checked)
        self._optimizer = Optimizer(initial_weights(config.model, config.seed), config.optimizer)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._optimizer.step

    def run(self, until: int, tell: Callable[[int, dict[str, float]], None]) -> None:
        """Train up to step ``until``; ``tell`` is handed every step and its losses."""
        c = self.config
        for batch in self._batches(self.step, min(until, c.steps)):
            losses = compute_losses(run_batch(self._optimizer.weights, c.model, batch), batch)
            loss = total(losses, c.losses)
            norm = self._optimizer.update(loss, c.steps)
            told = {name: float(value.detach()) for name, value in losses.items()}
            tell(self.step, {"loss": float(loss.detach()), **told, "gradient": norm})

    def check(self) -> dict[str, float]:
        """Return what the averaged weights achieve on demonstrations not trained on."""
        weights = to_tensors(self.weights(), trained=False)
        found = [measure(weights, self.config.model, batch) for batch in self._checks]
        return {name: float(np.mean([values[name] for values in found])) for name in found[0]}

    def weights(self) -> Arrays:
        """Return the averaged weights."""
        return self._optimizer.averaged()

    def checkpoint(self) -> Checkpoint:
        """Return what is needed to go on."""
        return Checkpoint(self._optimizer.to_arrays(), self.step, self._settings())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: if it was made with other settings, ``steps`` included: they decide the
                learning rate of every step.
        """
        mine, other = self._settings(), checkpoint.settings
        differing = [name for name in mine if mine[name] != other.get(name)]
        if differing:
            raise ConfigError(
                f"the checkpoint was made with another {differing[0]}: "
                f"{other.get(differing[0])}, not {mine[differing[0]]}"
            )
        self._optimizer.restore(checkpoint.arrays, checkpoint.step)

    def _settings(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.config)
        settings["words"] = list(self.vocabulary.words)
        # As JSON reads it back: lists for tuples.
        settings["sampling"]["delays"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings["sampling"]["delays"].items()
        }
        return settings

    def _batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of some steps; the next is made while one is computed on."""
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._sampler.batch, first)
            for number in range(first, last):
                batch = upcoming.result()
                if number + 1 < last:
                    upcoming = pool.submit(self._sampler.batch, number + 1)
                yield batch

    def _check_batches(self, data: Dataset, episodes: NDArray[np.int64]) -> list[Batch]:
        c = self.config
        plain = dataclasses.replace(
            c.sampling, age_dropout=0.0, turning_weight=1.0, near_weight=1.0
        )
        sampler = BatchSampler(data, episodes, self.vocabulary, plain, _CHECK_STREAM)
        return [sampler.batch(i) for i in range(4)]


def split_episodes(
    n: int, check_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the demonstrations to train on and those to check on; the same if there are few."""
    order = np.random.default_rng([seed, 31]).permutation(n)
    n_check = round(check_share * n)
    if n_check == 0:
        return np.sort(order), np.sort(order)
    return np.sort(order[n_check:]), np.sort(order[:n_check])
