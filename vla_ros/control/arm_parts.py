# SPDX-License-Identifier: Apache-2.0
"""What an arm carries and what its joints lose."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vla_ros.config_fields import check_finite
from vla_ros.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PayloadConfig:
    """Load fixed to the end effector, in the axes of ``ee_frame``.

    Attributes:
        com_m: (3,) centre of mass. inertia_kg_m2: (6,) about it: xx, yy, zz, xy, xz, yz.
    """

    mass_kg: float
    com_m: tuple[float, ...] = (0.0, 0.0, 0.0)
    inertia_kg_m2: tuple[float, ...] = (0.0,) * 6

    def __post_init__(self) -> None:
        if not 0.0 < self.mass_kg <= 100.0:
            raise ConfigError(f"payload.mass_kg must be > 0 and <= 100 kg, got {self.mass_kg}")
        for name, length in (("com_m", 3), ("inertia_kg_m2", 6)):
            value = getattr(self, name)
            check_finite(f"payload.{name}", value)
            if len(value) != length:
                raise ConfigError(f"payload.{name} needs {length} values, got {len(value)}")


@dataclass(frozen=True, kw_only=True)
class Friction:
    """Friction of the joints: a / (1 + exp(-b (dq + c))) less its value at rest."""

    a_nm: tuple[float, ...]
    b_s_rad: tuple[float, ...]
    c_rad_s: tuple[float, ...]

    def __post_init__(self) -> None:
        for f in fields(self):
            check_finite(f"friction.{f.name}", getattr(self, f.name))
