# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy train-flow``: a flow head on a trained policy, whose weights stay."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.policy_train import CHECKPOINT_FILE, TrainOptions, arrays_of, run_to_the_end
from vla_ros.commands.progress import ProgressLine
from vla_ros.config_fields import setting
from vla_ros.learning.flow_config import (
    DetourConfig,
    FlowConfig,
    FlowTrainingConfig,
    ScatterConfig,
)

if TYPE_CHECKING:
    from vla_ros.learning.flow_training import FlowTraining

_CHECK_STREAM = 10**9  # batches to check on are drawn with seeds of their own
_CHECK_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class TrainFlowOptions(TrainOptions):
    """What is trained on, where to, and how often it is written down."""

    policy: str = setting("runs/train/checkpoint.npz", "checkpoint of the trained direct policy")
    out: str = setting("runs/train-flow", "folder of checkpoint, losses and their plot")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to do"), TrainFlowOptions)
    add_options(parser.add_argument_group("training"), FlowTrainingConfig)
    add_options(parser.add_argument_group("flow head"), FlowConfig)
    add_options(parser.add_argument_group("scatter of the labels"), ScatterConfig)
    add_options(parser.add_argument_group("prefixes that lead elsewhere"), DetourConfig)


def run(namespace: argparse.Namespace) -> int:
    """Train; go on from the checkpoint in the folder, if there is one."""
    options = read_options(namespace, TrainFlowOptions)
    config = read_options(
        namespace,
        FlowTrainingConfig,
        flow=read_options(namespace, FlowConfig),
        scatter=read_options(namespace, ScatterConfig),
        detours=read_options(namespace, DetourConfig),
    )
    run_to_the_end(_start(config, options), options, config.steps, _note)
    return 0


def _note(found: dict[str, float]) -> str:
    return (
        f"rows {found['row_mm']:.1f} mm (direct {found['expert_mm']:.1f}), "
        f"spread {found['spread_mm']:.1f} mm"
    )


def _start(config: FlowTrainingConfig, options: TrainFlowOptions) -> FlowTraining:
    import torch

    from vla_ros.learning.checkpoint import load_checkpoint
    from vla_ros.learning.dataset import load_dataset
    from vla_ros.learning.export import read_weights
    from vla_ros.learning.flow_data import make_pool
    from vla_ros.learning.flow_training import FlowTraining, TrainedPolicy
    from vla_ros.learning.sampling import BatchSampler
    from vla_ros.learning.training import split_episodes

    torch.set_num_threads(config.threads)
    policy = TrainedPolicy(*read_weights(load_checkpoint(Path(options.policy))))
    data = load_dataset(arrays_of(Path(options.demos)))
    say(f"{len(data)} demonstrations, {len(data.arrays['frame_s'])} images of each camera")
    kept, checked = split_episodes(len(data), config.check_share, config.seed)
    plain = replace(config.sampling, age_dropout=0.0, turning_weight=1.0, near_weight=1.0)
    progress = ProgressLine(config.pool_batches + _CHECK_BATCHES, "batches seen")
    pools = [
        make_pool(
            policy.weights,
            policy.config,
            BatchSampler(data, episodes, policy.words, sampling, config.seed + stream),
            batches,
            progress.add,
        )
        for episodes, sampling, stream, batches in (
            (kept, config.sampling, 0, config.pool_batches),
            (checked, plain, _CHECK_STREAM, _CHECK_BATCHES),
        )
    ]
    training = FlowTraining(config, policy, *pools)
    checkpoint = Path(options.out) / CHECKPOINT_FILE
    if checkpoint.is_file():
        training.restore(load_checkpoint(checkpoint))
        say(f"going on from step {training.step}")
    return training
