# SPDX-License-Identifier: Apache-2.0
"""Parameters come from the configuration dataclass: names, defaults, ranges, refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.nodes.parameters import check_change, declare_parameters, read_parameters

pytestmark = pytest.mark.ros


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    rate_hz: float = setting(10.0, "how often", unit="Hz", ge=1.0, le=100.0)
    threads: int = setting(2, "how many", ge=1, le=8)
    mode: str = setting("slow", "how", choices=("slow", "fast"))
    name: str = setting("arm", "who", read_only=True)
    is_loud: bool = setting(False, "whether")
    upper: float = setting(1.0, "no lower bound", le=5.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.mode == "fast" and self.threads < 2:
            raise ConfigError(f"mode fast needs 2 threads, got {self.threads}")


@pytest.fixture(scope="module")
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(
        args=[],
        context=context,
        domain_id=1 + os.getpid() % 100,
        signal_handler_options=rclpy.SignalHandlerOptions.NO,
    )
    yield context
    context.try_shutdown()


def make_node(context: rclpy.Context, **overrides: object) -> Node:
    parameters = [Parameter(name, value=value) for name, value in overrides.items()]
    return Node("sample", context=context, parameter_overrides=parameters, enable_rosout=False)


def test_defaults_become_the_configuration(context: rclpy.Context) -> None:
    assert declare_parameters(make_node(context), SampleConfig) == SampleConfig()


def test_overrides_become_the_configuration(context: rclpy.Context) -> None:
    node = make_node(context, rate_hz=25.0, mode="fast", is_loud=True)
    config = declare_parameters(node, SampleConfig)
    assert config == SampleConfig(rate_hz=25.0, mode="fast", is_loud=True)
    assert read_parameters(node, SampleConfig) == config


def test_descriptors_say_unit_range_and_choices(context: rclpy.Context) -> None:
    node = make_node(context)
    declare_parameters(node, SampleConfig)
    rate = node.describe_parameter("rate_hz")
    assert rate.description == "how often [Hz]"
    assert rate.floating_point_range[0].from_value == 1.0
    assert rate.floating_point_range[0].to_value == 100.0
    threads = node.describe_parameter("threads").integer_range[0]
    assert (threads.from_value, threads.to_value) == (1, 8)
    assert node.describe_parameter("mode").additional_constraints == "one of slow, fast"
    assert node.describe_parameter("name").read_only


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rate_hz": 0.5}, r"rate_hz must be 1\.0 to 100\.0 Hz, got 0\.5 Hz"),
        ({"rate_hz": float("nan")}, "rate_hz must be"),
        ({"threads": 9}, "threads must be 1 to 8, got 9"),
        ({"threads": 2.5}, r"threads must be int, got float 2\.5"),
        ({"mode": "medium"}, "mode must be one of slow, fast, got 'medium'"),
        ({"is_loud": "yes"}, "is_loud must be bool, got str 'yes'"),
    ],
)
def test_bad_override_is_refused_by_name_value_and_range(
    context: rclpy.Context, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        declare_parameters(make_node(context, **overrides), SampleConfig)


def test_change_is_judged_as_a_whole(context: rclpy.Context) -> None:
    node = make_node(context)
    declare_parameters(node, SampleConfig)
    changes = [Parameter("mode", value="fast"), Parameter("threads", value=1)]
    result, config = check_change(node, SampleConfig, changes)
    assert not result.successful
    assert result.reason == "mode fast needs 2 threads, got 1"
    assert config is None
    result, config = check_change(node, SampleConfig, changes[:1])
    assert result.successful
    assert config == SampleConfig(mode="fast")


def test_parameters_of_others_are_none_of_our_business(context: rclpy.Context) -> None:
    node = make_node(context)
    declare_parameters(node, SampleConfig)
    result, config = check_change(node, SampleConfig, [Parameter("use_sim_time", value=True)])
    assert result.successful
    assert config == SampleConfig()
