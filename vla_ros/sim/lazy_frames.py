# SPDX-License-Identifier: Apache-2.0
"""Images that are drawn when they are looked at: many are never seen by anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vla_ros.types import CameraFrame


class LazyFrames(Mapping[str, CameraFrame]):
    """The images of all cameras at one instant; the first look draws them.

    Args:
        names: of the cameras.
        draw: returns the images; called once at most.

    Thread-safety: one thread.
    """

    def __init__(self, names: tuple[str, ...], draw: Callable[[], Mapping[str, CameraFrame]]):
        self._names, self._draw = names, draw
        self._drawn: Mapping[str, CameraFrame] | None = None

    def __getitem__(self, name: str) -> CameraFrame:
        """Return the image of a camera."""
        if name not in self._names:
            raise KeyError(name)
        if self._drawn is None:
            self._drawn = self._draw()
        return self._drawn[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names of the cameras; nothing is drawn."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many cameras there are; nothing is drawn."""
        return len(self._names)
