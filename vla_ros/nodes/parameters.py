# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from a configuration dataclass: one source of names, defaults and ranges."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_ros.errors import ConfigError

Config = TypeVar("Config")


def _descriptor(f: Field[Any]) -> ParameterDescriptor:
    meta = f.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    descriptor = ParameterDescriptor(
        name=f.name, description=meta["description"] + unit, read_only=meta["read_only"]
    )
    if meta["choices"]:
        descriptor.additional_constraints = "one of " + ", ".join(meta["choices"])
    low, high = meta["ge"], meta["le"]
    if isinstance(f.default, tuple):  # ROS knows ranges of single numbers only
        descriptor.additional_constraints = f"each {low} to {high}"
    elif low is not None and high is not None:
        if isinstance(f.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def declare_parameters(node: Node, config_type: type[Config]) -> Config:
    """Declare every setting of a configuration and return the configuration that results.

    Raises:
        ConfigError: if a value from the command line or a file is refused; names value and range.
    """
    settings = [f for f in fields(config_type) if "description" in f.metadata]  # type: ignore[arg-type]
    for f in settings:
        if f.default is MISSING:
            raise ConfigError(f"setting {f.name} needs a default")
        override = node._parameter_overrides.get(f.name)  # noqa: SLF001 - no public accessor
        if override is not None:
            # Judged by the dataclass first: its message names value and range, rclpy's does not.
            config_type(**{f.name: override.value})
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        node.declare_parameter(f.name, default, _descriptor(f))
    return read_parameters(node, config_type)


def read_parameters(node: Node, config_type: type[Config]) -> Config:
    """Return the configuration that the node's parameters hold now."""
    names = [f.name for f in fields(config_type) if "description" in f.metadata]  # type: ignore[arg-type]
    return config_type(**{name: node.get_parameter(name).value for name in names})


def check_change(
    node: Node, config_type: type[Config], changes: list[Parameter]
) -> tuple[SetParametersResult, Config | None]:
    """Judge a change before it is made: all of it or none of it."""
    names = [f.name for f in fields(config_type) if "description" in f.metadata]  # type: ignore[arg-type]
    values = {name: node.get_parameter(name).value for name in names}
    values |= {p.name: p.value for p in changes if p.name in values}
    try:
        return SetParametersResult(successful=True), config_type(**values)
    except ConfigError as error:
        return SetParametersResult(successful=False, reason=str(error)), None
