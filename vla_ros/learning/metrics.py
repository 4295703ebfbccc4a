# SPDX-License-Identifier: Apache-2.0
"""What a person wants to know of a model besides its loss: centimetres and shares."""

from __future__ import annotations

import numpy as np

from vla_ros.learning.losses import run_batch
from vla_ros.learning.model_config import PICK_SLOT, PLACE_SLOT, ModelConfig
from vla_ros.learning.parameters import Weights
from vla_ros.learning.sampling import Batch


def measure(weights: Weights, config: ModelConfig, batch: Batch) -> dict[str, float]:
    """Return errors on a batch.

    pick_cm, place_cm: median distance of the slow half from the truth; pick_p95_cm its 95th
    percentile; pick_now_cm that of the fast half; pick_yaw_deg median; row_mm: median distance of
    the last row; gripper, phase: share of right answers.
    """
    import torch

    with torch.no_grad():
        out = run_batch(weights, config, batch)
    places = out.asked.places.numpy()
    pick = np.linalg.norm(places[:, PICK_SLOT] - batch.asked.places[:, 0], axis=1)
    place = np.linalg.norm(places[:, PLACE_SLOT] - batch.asked.places[:, 1], axis=1)
    free = batch.asked.is_free
    anchors = out.expert.anchors.numpy()
    now = np.linalg.norm(anchors[:, :2] - batch.anchors[:, :2], axis=1)[batch.is_free]
    yaw = out.asked.yaw[:, PICK_SLOT].numpy()
    right = batch.asked.yaw
    turned = np.arctan2(yaw[:, 1], yaw[:, 0]) - np.arctan2(right[:, 1], right[:, 0])
    off = np.abs(np.angle(np.exp(1j * turned)))[free] / 4
    rows = np.linalg.norm(out.expert.rows.numpy()[:, -1] - batch.rows[:, -1, :3], axis=1)
    opens = out.expert.gripper.numpy() > 0.0
    phase = out.expert.phase.numpy().argmax(axis=1)
    return {
        "pick_cm": 100.0 * _median(pick[free]),
        "pick_p95_cm": 100.0 * float(np.percentile(pick[free], 95)) if free.any() else 0.0,
        "place_cm": 100.0 * _median(place),
        "pick_now_cm": 100.0 * _median(now),
        "pick_yaw_deg": float(np.degrees(_median(off))),
        "row_mm": 1000.0 * _median(rows),
        "gripper": float((opens == (batch.opens > 0.5)).mean()),
        "phase": float((phase == batch.phase).mean()),
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0
