# SPDX-License-Identifier: Apache-2.0
"""An export with a flow head: graphs that compute what PyTorch computes, strategies that run on it.

The weights are random: what is tested holds for any.
"""

from __future__ import annotations

import dataclasses

import flow_loop
import numpy as np
import pytest
from flow_samples import FLOW, trained
from learning_samples import TINY

from vla_ros.chunking.strategies.base import Guidance
from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint
from vla_ros.learning.flow_export import export_flow
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.rehearsal import guided_request, made_up_observation
from vla_ros.policies.onnx.session import PolicyRuntime

pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

TEXT = "put the red cube in the purple bowl"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow") / "policy"
    return folder, export_flow(trained(3)[0].checkpoint(), folder, "tiny-flow")


@pytest.fixture
def policy(exported):
    return OnnxChunkPolicy(open_policy(exported[0]), PolicyRuntime(report=lambda text: None))


def seen(policy):
    return made_up_observation(policy.manifest, TEXT, np.random.default_rng(0))


def test_graphs_compute_what_pytorch_computes_the_jacobian_too(exported):
    assert set(exported[1]) == {"chunk", "velocity"}
    assert max(exported[1].values()) <= 1e-4


def test_vjp_of_the_graph_is_the_derivative_of_its_velocity(exported):
    session = onnxruntime.InferenceSession(str(exported[0] / "velocity.onnx"))
    random, step = np.random.default_rng(0), 1e-2
    shapes = {i.name: i.shape for i in session.get_inputs()}
    feeds = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    feeds["spread"] = np.abs(feeds["spread"]) + np.float32(0.3)
    feeds |= {
        "flow_time": np.array([[0.4]], np.float32),
        "prefix_rows": np.array([[2]], np.int64),
    }
    (vjp,) = session.run(["vjp"], feeds)
    for _ in range(5):
        way = random.normal(size=feeds["flow_rows"].shape).astype(np.float32)
        ends = [
            session.run(["velocity"], feeds | {"flow_rows": feeds["flow_rows"] + s * way})[0]
            for s in (step, -step)
        ]
        along = float(np.sum(feeds["cotangent"] * (ends[0] - ends[1])) / (2 * step))
        assert float(np.sum(vjp * way)) == pytest.approx(along, rel=2e-2, abs=5e-2)


def test_manifest_says_what_the_policy_can_do(policy):
    able = policy.capabilities
    assert (able.is_guided, able.has_vjp, able.n_candidates) == (True, True, 3)
    assert able.trained_prefix_max == FLOW.prefix_rows_max


@pytest.mark.parametrize("strategy", ["rtc_identity", "rtc_vjp", "rtc_trained", "consensus"])
def test_strategies_run_on_it_and_a_trained_prefix_is_kept(policy, strategy):
    run = flow_loop.run(policy, strategy, seen(policy), latency_ms=130.0, steps=40)
    assert run.execution.counts.failed == 0
    # Consensus acts on a plan for as long as candidates agree: fewer plans than steps.
    assert len(run.plans) >= 10
    largest, n = run.kept.kept_share()
    if strategy == "rtc_trained":
        assert n >= 2
        assert largest < 1e-6


def test_guidance_draws_rows_to_the_plan(policy):
    view = seen(policy)
    free = policy.infer_now(view)
    moved = dataclasses.replace(free, positions=free.positions + np.array([0.0, 0.0, 0.02]))
    request = guided_request(view, moved, policy.capabilities)
    prefix = dataclasses.replace(request.prefix, weights=np.ones(16))
    request = dataclasses.replace(request, prefix=prefix)
    assert request.guidance is Guidance.IDENTITY
    (found,) = policy.infer(request)
    assert np.abs(found.positions - moved.positions).max() < 0.25 * 0.02


def test_checkpoint_without_a_head_is_not_exported(tmp_path):
    settings = {"model": {"channels": TINY.channels}, "words": [], "flow": {"condition": 8}}
    with pytest.raises(ConfigError, match="does not say"):
        export_flow(Checkpoint({}, 1, settings), tmp_path, "tiny")
