# SPDX-License-Identifier: Apache-2.0
"""Errors of vla_ros: set-up raises one of these, loops return a status instead."""


class VlaRosError(Exception):
    """Base of every error that vla_ros raises on purpose."""


class ConfigError(VlaRosError, ValueError):
    """A setting is missing, of the wrong type or outside its range."""


class ShapeError(VlaRosError, ValueError):
    """An array has the wrong shape, dtype or length."""


class FrameError(VlaRosError):
    """A pose, twist or wrench is expressed in an unexpected frame."""


class StaleDataError(VlaRosError):
    """Data is older than the caller may act on."""


class OverwrittenError(StaleDataError):
    """A slot of a ring was written anew while its entry was in use: what came of it is void."""


class InstructionError(VlaRosError, ValueError):
    """An instruction cannot be understood; the message lists what can be asked for."""


class PolicyError(VlaRosError):
    """A policy failed or returned something unusable."""


class PolicyTimeoutError(PolicyError):
    """A policy did not answer in time."""


class SafetyError(VlaRosError):
    """An action was refused because it would be unsafe."""


class RecordingError(VlaRosError):
    """A recording could not be written or is not complete."""
