# SPDX-License-Identifier: Apache-2.0
"""A split policy as large as wanted, with weights drawn at random: for timing, it knows nothing.

    slow: two images as patches of 16 px, words -> transformer -> latent
    fast: latent, its age, state, noise         -> transformer -> rows

Weights are 16-bit floats in one file beside each graph, drawn matrix by matrix and written at once,
so that three billion of them need little memory. ``forward`` is the same computation in PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.large_graph import LargeGraph
from vla_ros.bench.large_sizes import (
    CAMERAS,
    CENTRE,
    COLUMNS,
    PATCH_PX,
    ROWS,
    SCALE,
    STATE,
    VOCABULARY,
    WORDS,
    LargePolicy,
    shapes_of,
)
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.write import write_manifest

_DEVIATION = 0.02

Half = NDArray[np.float16]


def write_large_policy(folder: Path, size: LargePolicy, seed: int = 0) -> Path:
    """Write the export into a folder, which must be new or empty; return it.

    Raises:
        ConfigError: if the folder has something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    for half in ("slow", "fast"):
        offsets = _write_weights(folder / f"{half}.bin", shapes_of(size, half), seed)
        build = LargeGraph(half, offsets)
        (build.slow if half == "slow" else build.fast)(size)
        (folder / f"{half}.onnx").write_bytes(build.model())
    numbers = {word: i for i, word in enumerate(VOCABULARY)}
    (folder / "vocabulary.json").write_text(json.dumps(numbers), encoding="utf-8")
    write_manifest(folder, _manifest(size))
    return folder


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, Half]]:
    """Yield the weights one by one; each has a random stream of its own."""
    for name, shape in shapes.items():
        if "norm" in name:
            yield name, np.ones(shape, np.float16)
            continue
        random = np.random.default_rng([seed, *name.encode()])
        values = random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(_DEVIATION)
        yield name, values.astype(np.float16)


def stored(folder: Path, size: LargePolicy, half: str) -> dict[str, Half]:
    """Return the weights of an export, as the file has them, not read yet."""
    found, at = {}, 0
    data = np.memmap(folder / f"{half}.bin", dtype=np.float16, mode="r")
    for name, shape in shapes_of(size, half).items():
        n = int(np.prod(shape))
        found[name] = data[at : at + n].reshape(shape)
        at += n
    return found


def forward(
    size: LargePolicy, half: str, weights: dict[str, Any], device: str
) -> Callable[..., Any]:
    """Return a half as a function of PyTorch tensors: what the graph computes, eagerly.

    Args:
        size: of the policy.
        half: slow or fast.
        weights: tensors by name, on the device.
        device: where the inputs go.
    """
    import torch
    from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

    t = size.slow if half == "slow" else size.fast
    p = weights

    def norm(x: Any, name: str) -> Any:
        return layer_norm(x, (t.width,), p[name])

    def split(x: Any) -> Any:
        return x.reshape(1, -1, t.heads, t.width // t.heads).transpose(1, 2)

    def layers(x: Any) -> Any:
        for i in range(t.layers):
            y = norm(x, f"{i}/norm1")
            q, k, v = (split(y @ p[f"{i}/{name}"]) for name in ("q", "k", "v"))
            found = scaled_dot_product_attention(q, k, v)
            x = x + found.transpose(1, 2).reshape(1, -1, t.width) @ p[f"{i}/o"]
            x = x + gelu(norm(x, f"{i}/norm2") @ p[f"{i}/up"]) @ p[f"{i}/down"]
        return norm(x, "norm") @ p["out"]

    def half_of(x: Any) -> Any:
        return torch.as_tensor(x).to(device).to(p["out"].dtype)

    def slow(image: Any, tokens: Any) -> Any:
        n, px = size.side_px // PATCH_PX, PATCH_PX
        x = half_of(image) / 127.5 - 1.0
        x = x.reshape(1, len(CAMERAS), n, px, n, px, 3).permute(0, 1, 2, 4, 3, 5, 6)
        seen = x.reshape(1, size.patches, 3 * px**2) @ p["patch"]
        said = p["words"][torch.as_tensor(tokens).to(device)]
        return layers(torch.cat([seen, said], 1) + p["place"]).float()

    def fast(latent: Any, latent_age_s: Any, state: Any, noise: Any) -> Any:
        known = torch.cat([half_of(state), half_of(latent_age_s)], -1) @ p["state"]
        asked = half_of(noise) @ p["noise"] + p["place"] + known[:, None]
        x = torch.cat([asked, half_of(latent) @ p["latent"]], 1)
        moved = layers(x)[:, :ROWS].float()
        return _rows(moved)

    def _rows(moved: Any) -> Any:
        return torch.tanh(moved) * torch.as_tensor(SCALE, device=device) + torch.as_tensor(
            CENTRE, device=device
        )

    return slow if half == "slow" else fast


def _write_weights(
    path: Path, shapes: dict[str, tuple[int, ...]], seed: int
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Write the weights into one file; return where each begins [bytes], and its shape."""
    offsets = {}
    with path.open("wb") as file:
        for name, values in drawn(shapes, seed):
            offsets[name] = (file.tell(), values.shape)
            values.tofile(file)
    return offsets


def _manifest(size: LargePolicy) -> dict[str, Any]:
    latent = {
        "role": "latent",
        "dtype": "float32",
        "shape": [1, size.latent_tokens, size.latent_dim],
    }
    image = {
        "role": "images",
        "dtype": "uint8",
        "shape": [1, len(CAMERAS), size.side_px, size.side_px, 3],
        "cameras": list(CAMERAS),
        "resize": "area",
    }
    words = {
        "role": "instruction",
        "dtype": "int64",
        "shape": [1, WORDS],
        "vocabulary": "vocabulary.json",
    }
    state = {
        "role": "state",
        "dtype": "float32",
        "shape": [1, STATE],
        "fields": ["ref_position_m", "ref_rotation_6d", "gripper_width_m", "gripper_target_m"],
    }
    rows = {"dtype": "float32", "shape": [1, ROWS, COLUMNS]}
    return {
        "name": "random-weights",
        "kind": "split",
        "description": "Weights drawn at random, to be timed; not for a robot.",
        "max_age_s": 2.0,
        "normalisation_sha256": "0" * 64,
        "graphs": {
            "slow": {
                "file": "slow.onnx",
                "inputs": {"image": image, "tokens": words},
                "outputs": {"latent": latent},
            },
            "fast": {
                "file": "fast.onnx",
                "inputs": {
                    "latent": latent,
                    "latent_age_s": {"role": "latent_age_s", "dtype": "float32", "shape": [1, 1]},
                    "state": state,
                    "noise": {"role": "noise", **rows, "draw": "call"},
                },
                "outputs": {"actions": {"role": "actions", **rows}},
            },
        },
        "actions": {
            "rows": ROWS,
            "dt_s": 0.033333333,
            "position": "relative_base",
            "rotation": "absolute",
            "rotation_format": "rotation_6d",
            "gripper": "width_m",
            "gripper_range_m": [0.0, 0.08],
        },
        "abilities": {"age_input": True},
        "rates": {"slow_hz": 3, "fast_hz": 30},
        "files": ["vocabulary.json", "slow.bin", "fast.bin"],
    }
