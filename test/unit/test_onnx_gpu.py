# SPDX-License-Identifier: Apache-2.0
"""On a CUDA device every provider gives what the CPU gives. Run with -m gpu."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from onnx_samples import write_split

from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.ort_backend import import_onnxruntime
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime

pytestmark = pytest.mark.gpu

_NEEDED = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "tensorrt_engine"])
def test_provider_gives_what_the_cpu_gives(tmp_path, provider, cuda_graph):
    if (
        provider in _NEEDED
        and _NEEDED[provider] not in import_onnxruntime().get_available_providers()
    ):
        pytest.skip(f"this ONNX Runtime is built without {provider}")
    if provider == "tensorrt_engine" and (cuda_graph or not importlib.util.find_spec("tensorrt")):
        pytest.skip("needs the package tensorrt, and has no CUDA graphs")
    folder = open_policy(write_split(tmp_path / "p"))
    settings = SessionSettings(
        provider=provider, cuda_graph=cuda_graph, engine_cache=str(tmp_path / "cache")
    )
    ours = GraphSession(folder, "fast", PolicyRuntime(session=settings))
    assert ours.provider == provider
    cpu = GraphSession(folder, "fast", PolicyRuntime(session=SessionSettings(provider="cpu")))
    rng = np.random.default_rng(0)
    for _ in range(5):
        feeds = {t.name: rng.normal(size=t.size).astype(t.dtype) for t in ours.spec.inputs}
        expected, _ = cpu.run(feeds)
        found, _ = ours.run(feeds)
        np.testing.assert_allclose(found["actions"], expected["actions"], atol=1e-4)
