# SPDX-License-Identifier: Apache-2.0
"""A small flow head on a small policy without training, for tests; needs PyTorch."""

from __future__ import annotations

import dataclasses

import numpy as np
from learning_samples import TINY, made_up_data, tiny_training

from vla_ros.learning.flow_config import FlowConfig, FlowTrainingConfig
from vla_ros.learning.flow_data import make_pool
from vla_ros.learning.flow_training import FlowTraining, TrainedPolicy
from vla_ros.learning.model import initial_weights
from vla_ros.learning.sampling import BatchSampler
from vla_ros.learning.vocabulary import default_vocabulary

FLOW = FlowConfig(flow_hidden=16, condition=8, denoising_steps=10, candidates=3)
CONFIG = FlowTrainingConfig(steps=6, batch=16, pool_batches=2, threads=1, flow=FLOW)


def trained(until, policy=None, **changes):
    policy = policy or TrainedPolicy(initial_weights(TINY, 0), TINY, default_vocabulary())
    config = dataclasses.replace(CONFIG, **changes)
    sampler = BatchSampler(
        made_up_data(), np.arange(2), policy.words, tiny_training().sampling, config.seed
    )
    pool = make_pool(policy.weights, policy.config, sampler, config.pool_batches)
    training = FlowTraining(config, policy, pool, pool)
    losses = []
    training.run(until, lambda step, values: losses.append(values["loss"]))
    return training, losses
