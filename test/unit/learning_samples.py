# SPDX-License-Identifier: Apache-2.0
"""Small made-up demonstrations and a small model for the tests of learning."""

from __future__ import annotations

import numpy as np

from vla_ros.learning.dataset import Dataset
from vla_ros.learning.demo_reader import encode_scene
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.sampling import SamplingConfig
from vla_ros.learning.state_vector import STATE_CENTRE, STATE_SCALE, STATE_SIZE
from vla_ros.learning.training_config import TrainingConfig
from vla_ros.learning.views import SCENE_SHAPE, WRIST_SHAPE

TINY = ModelConfig(
    channels=8, blocks=1, hidden=32, key_dim=8, token_dim=8, wrist_channels=8, word_dim=8
)
FRAMES, STEPS = 4, 12


def tiny_training(**changes) -> TrainingConfig:
    options = {
        "steps": 6,
        "threads": 1,
        "check_share": 0.0,
        "model": TINY,
        "sampling": SamplingConfig(batch_frames=2, frame_steps=2),
    }
    return TrainingConfig(**(options | changes))


def made_up_data(episodes: int = 2, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    frames, steps = episodes * FRAMES, episodes * STEPS
    noise = random.integers(0, 256, (frames, *SCENE_SHAPE, 3), dtype=np.uint8)
    images = [encode_scene(image) for image in noise]
    place = [0.48, 0.0, 0.02, 0.1] + 0.05 * random.normal(size=(frames + steps, 4, 4))
    bowls = [0.5, 0.1] + 0.05 * random.normal(size=(frames + steps, 2, 2))
    rows = np.zeros((steps, 16, 6))
    rows[..., :3] = 0.01 * random.normal(size=(steps, 16, 3))
    rows[..., 4], rows[..., 5] = 1.0, np.where(random.random((steps, 1)) < 0.5, 0.08, 0.01)
    state = STATE_CENTRE + np.array(STATE_SCALE) * random.normal(size=(steps, STATE_SIZE))
    first = np.arange(episodes + 1)
    arrays = {
        "goal": np.tile([1, 0], (episodes, 1)),  # green, purple
        "wrist": random.integers(0, 256, (frames, *WRIST_SHAPE, 3), dtype=np.uint8),
        "frame_s": np.tile(0.1 * np.arange(FRAMES), episodes),
        "frame_cubes": place[:frames],
        "frame_bowls": bowls[:frames],
        "step_s": np.tile(np.arange(STEPS) / 30.0, episodes),
        "state": state,
        "rows": rows,
        "way_goal": 0.1 * random.normal(size=(steps, 4)),
        "phase": random.integers(0, 10, steps),
        "cubes": place[frames:],
        "bowls": bowls[frames:],
        "newest_frame": np.repeat(np.arange(frames), STEPS // FRAMES),
    }
    return Dataset(
        arrays={k: v.astype(np.float32) if v.dtype == float else v for k, v in arrays.items()},
        first_frame=FRAMES * first,
        first_step=STEPS * first,
        scene_bytes=np.frombuffer(b"".join(images), dtype=np.uint8),
        scene_start=np.cumsum([0] + [len(data) for data in images]),
    )
