# SPDX-License-Identifier: Apache-2.0
"""A drawn table with coloured squares and an arm, for the tests of cached features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from strategy_samples import make_state

from vla_ros.policies.colors import COLOURS
from vla_ros.policies.features.encoder import Features, Patches
from vla_ros.policies.features.patch_mlp import PatchMlpConfig, PatchMlpEncoder
from vla_ros.types import CameraFrame, CameraIntrinsics, Observation

SIDE_PX = 128
PATCH_PX = 16
OBJECT_PX = 22
NOISE = 2.0  # levels, one pixel
CAMERA = "scene_camera"


def small_encoder(cameras: tuple[str, ...] = (CAMERA,), seed: int = 0) -> PatchMlpEncoder:
    return PatchMlpEncoder(cameras, PatchMlpConfig(width=32, layers=1, features=16, seed=seed))


@dataclass(frozen=True)
class Table:
    """Where the squares are (corner, px) and where the arm is (px from the left)."""

    squares: dict[str, tuple[int, int]]
    arm_px: int = 0
    side_px: int = SIDE_PX

    def drawn(self) -> np.ndarray:
        """The image without noise (H, W, 3)."""
        y, x = np.mgrid[: self.side_px, : self.side_px]
        grey = 110.0 + 20.0 * np.sin(0.07 * x) * np.cos(0.05 * y)
        image = np.repeat(grey[:, :, None], 3, axis=2)
        image[: self.side_px // 4, self.arm_px : self.arm_px + 20] = 60.0
        for colour, (row, column) in self.squares.items():
            square = image[row : row + OBJECT_PX, column : column + OBJECT_PX]
            square[:] = 255.0 * np.array(COLOURS[colour].rgb)
        return image

    def seen(self, rng: np.random.Generator, noise: float = NOISE) -> np.ndarray:
        """The image with the noise of a sensor, uint8."""
        image = self.drawn() + noise * rng.standard_normal((self.side_px, self.side_px, 3))
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def centre(self, colour: str) -> np.ndarray:
        """Where the square of a colour is: x and y as shares of the image."""
        row, column = self.squares[colour]
        return (np.array([column, row]) + OBJECT_PX / 2) / self.side_px

    def teleported(self, colour: str, rng: np.random.Generator) -> Table:
        """The same table with one square somewhere else, at least its own size away."""
        there = self.squares[colour]
        while max(abs(np.subtract(there, self.squares[colour]))) < OBJECT_PX:
            there = place(rng)
        return replace(self, squares={**self.squares, colour: there})


def place(rng: np.random.Generator) -> tuple[int, int]:
    row, column = rng.integers(SIDE_PX // 4, SIDE_PX - OBJECT_PX, size=2)
    return int(row), int(column)


def random_table(rng: np.random.Generator) -> Table:
    """One red square; a second colour would sometimes hide it."""
    return Table({"red": place(rng)}, arm_px=int(rng.integers(0, SIDE_PX - 20)))


def frame_of(rgb: np.ndarray, camera: str = CAMERA) -> CameraFrame:
    height, width = rgb.shape[:2]
    intrinsics = CameraIntrinsics(
        width=width, height=height, fx=100.0, fy=100.0, cx=width / 2, cy=height / 2
    )
    return CameraFrame(
        name=camera,
        rgb=rgb,
        depth_m=None,
        intrinsics=intrinsics,
        T_base_camera=np.eye(4),
        capture_ns=1,
    )


def seen_by(
    *images: np.ndarray, instruction: str = "the red one", instruction_id: int = 1
) -> Observation:
    """An observation of one image, or of one for each of the cameras 0, 1, ..."""
    names = [CAMERA] if len(images) == 1 else [f"camera_{k}" for k in range(len(images))]
    return Observation(
        state=make_state(),
        instruction=instruction,
        instruction_id=instruction_id,
        episode_id=1,
        frames={n: frame_of(image, n) for n, image in zip(names, images, strict=True)},
    )


class CountingEncoder:
    """Remembers how many patches each call had; fails when told to."""

    def __init__(self, encoder: PatchMlpEncoder) -> None:
        self.inner = encoder
        self.name, self.cameras = encoder.name, encoder.cameras
        self.patch_px, self.max_age_s = encoder.patch_px, encoder.max_age_s
        self.check_instruction, self.fuse = encoder.check_instruction, encoder.fuse
        self.calls: list[int] = []
        self.failure: Exception | None = None

    @property
    def version(self) -> str:
        return self.inner.version

    def encode_patches(self, patches: Patches) -> Features:
        self.calls.append(len(patches))
        if self.failure is not None:
            raise self.failure
        return self.inner.encode_patches(patches)


def differing_patches(before: np.ndarray, after: np.ndarray, levels: float = 30.0) -> np.ndarray:
    """Patches (rows, columns) of which at least 16 pixels differ by so much, pixel by pixel."""
    n = before.shape[0] // PATCH_PX
    differs = np.abs(before - after).max(axis=2) > levels
    return differs.reshape(n, PATCH_PX, n, PATCH_PX).sum(axis=(1, 3)) >= 16
