# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy card``: the model card, from the files of everything before it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.policy_demos import SUMMARY_FILE
from vla_ros.commands.policy_train import CHECKPOINT_FILE, LOG_FILE
from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.model_card import CardSources, write_card


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """Where the numbers are and where the card goes."""

    policy: str = setting("models/pick-place", "folder of the export")
    demos: str = setting("runs/demos", "folder of the demonstrations")
    train: str = setting("runs/train", "folder of the training")
    csv: str = setting("runs/evaluate/pick-place.csv", "results of the evaluation")
    out: str = setting("docs/models", "folder of the card")

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("where from and where to"), CardOptions)


def run(namespace: argparse.Namespace) -> int:
    """Write the card."""
    options = read_options(namespace, CardOptions)
    sources = CardSources(
        policy=Path(options.policy),
        demos=Path(options.demos) / SUMMARY_FILE,
        checkpoint=Path(options.train) / CHECKPOINT_FILE,
        log=Path(options.train) / LOG_FILE,
        results=Path(options.csv),
    )
    say(str(write_card(sources, Path(options.out))))
    return 0
