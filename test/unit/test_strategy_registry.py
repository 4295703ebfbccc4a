# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from strategy_samples import able, capabilities

from vla_ros.chunking.strategies.learned_correction import DriftHead
from vla_ros.chunking.strategies.naive import NaiveSettings
from vla_ros.chunking.strategies.real_time_chunking import RealTimeChunkingSettings
from vla_ros.chunking.strategies.registry import (
    default_settings,
    make_strategy,
    negotiate,
    strategy_names,
)
from vla_ros.chunking.strategies.seam_fade import SeamFade, SeamFadeSettings
from vla_ros.errors import ConfigError

HEAD = DriftHead(np.zeros(3))
UNTIED = {"trained_prefix_max": 0, "has_vjp": False, "is_guided": False}
BARE = {**UNTIED, "takes_projected_state": False}


@pytest.mark.parametrize("name", strategy_names())
def test_every_strategy_is_made_for_a_policy_that_can_do_all(name: str) -> None:
    strategy = make_strategy(name, able(), head=HEAD)
    assert strategy.name.startswith(name.removesuffix("_from_zero"))
    assert negotiate(able(), name)[0] == name
    assert make_strategy(name, able(), default_settings(name), head=HEAD).name == strategy.name


@pytest.mark.parametrize("name", strategy_names())
def test_a_bare_policy_gets_something_it_can_serve_and_a_sentence(name: str) -> None:
    chosen, reason = negotiate(capabilities(), name)
    make_strategy(chosen, capabilities(), head=HEAD)
    assert reason.endswith(".")
    if chosen != name:
        assert f"in place of {name}" in reason
        with pytest.raises(ConfigError, match="needs"):
            make_strategy(name, capabilities(), head=HEAD)


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, "rtc_trained"),
        ({"trained_prefix_max": 0}, "rtc_vjp"),
        ({"trained_prefix_max": 0, "has_vjp": False}, "rtc_identity"),
        (UNTIED, "state_projection"),
        (BARE, "naive"),
    ],
)
def test_real_time_chunking_falls_step_by_step(changes: dict[str, object], chosen: str) -> None:
    found, reason = negotiate(able(**changes), "rtc_trained")
    assert found == chosen
    assert ("trained to continue" in reason) == bool(changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "rows of the running plan"),
        ({"has_vjp": False, "is_guided": False}, "up to 4 rows"),
        (UNTIED, "projected state"),
        (BARE, "by time"),
        ({"has_split_latent": True}, "every step"),
    ],
)
def test_timed_says_how_it_ties_chunks_together(changes: dict[str, object], words: str) -> None:
    chosen, reason = negotiate(able(**changes), "timed")
    assert chosen == "timed"
    assert words in reason


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy must be one of"):
        make_strategy("best", able())
    with pytest.raises(ConfigError, match="strategy must be one of"):
        negotiate(able(), "best")
    with pytest.raises(ConfigError, match="settings of timed are TimedSettings"):
        make_strategy("timed", able(), NaiveSettings())
    with pytest.raises(ConfigError, match="cannot have guidance"):
        make_strategy("rtc_vjp", able(), RealTimeChunkingSettings(guidance="identity"))
    with pytest.raises(ConfigError, match="head"):
        make_strategy("learned_correction", able())


def test_fade_wraps_any_strategy() -> None:
    strategy = make_strategy("naive", able(), fade=SeamFadeSettings())
    assert isinstance(strategy, SeamFade)
    assert strategy.name == "naive+fade"
