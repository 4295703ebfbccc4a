# SPDX-License-Identifier: Apache-2.0
"""Colours of the table-top task: what they are called and how a camera sees them in white light."""

from __future__ import annotations

from dataclasses import dataclass

CUBE_COLOURS = ("red", "green", "blue", "yellow")
BOWL_COLOURS = ("purple", "cyan")


@dataclass(frozen=True)
class ObjectColour:
    """A colour that can be told apart by its hue.

    Attributes:
        rgb: surface colour, 0..1 each.
        hue_deg: centre of the accepted hue [deg, 0..360).
        hue_tolerance_deg: half width of the accepted hue [deg].
    """

    rgb: tuple[float, float, float]
    hue_deg: float
    hue_tolerance_deg: float = 18.0


COLOURS: dict[str, ObjectColour] = {
    "red": ObjectColour((0.85, 0.08, 0.08), 0.0),
    "yellow": ObjectColour((0.93, 0.80, 0.05), 51.0),
    "green": ObjectColour((0.10, 0.65, 0.15), 125.0),
    "cyan": ObjectColour((0.08, 0.75, 0.80), 184.0),
    "blue": ObjectColour((0.08, 0.22, 0.85), 229.0),
    "purple": ObjectColour((0.55, 0.12, 0.75), 281.0),
}
