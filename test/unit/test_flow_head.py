# SPDX-License-Identifier: Apache-2.0
"""The flow head: what holds before any training, how it is trained, what is exported of it."""

from __future__ import annotations

import dataclasses

import flow_loop
import numpy as np
import pytest
from learning_samples import TINY, made_up_data, tiny_training

from vla_ros.chunking.strategies.base import Guidance
from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.flow_config import FlowConfig, FlowTrainingConfig, ScatterConfig
from vla_ros.learning.flow_data import draw_prefix_rows, scatter
from vla_ros.learning.model import initial_weights
from vla_ros.learning.sampling import BatchSampler
from vla_ros.learning.vocabulary import default_vocabulary

FLOW = FlowConfig(flow_hidden=16, condition=8, denoising_steps=10, candidates=3)
CONFIG = FlowTrainingConfig(steps=6, batch=16, pool_batches=2, threads=1, flow=FLOW)


def rows(n=4, seed=0):
    random = np.random.default_rng(seed)
    made = np.zeros((n, 16, 6), dtype=np.float32)
    made[..., :3] = np.linspace(0, 0.1, 16)[:, None] * random.normal(size=(n, 1, 3))
    made[..., 4], made[..., 5] = 1.0, 0.08
    return made


def test_labels_scatter_with_the_way_and_not_at_its_beginning():
    right, config = rows(2000), ScatterConfig(way_share=0.1)
    found = scatter(right, config, np.random.default_rng(1))
    away = np.linalg.norm(found - right, axis=-1)
    way = np.linalg.norm(right[:, -1, :3], axis=-1)
    assert np.abs(found[:, 0] - right[:, 0]).max() == 0.0
    assert np.sqrt(np.mean((away[:, -1] / way) ** 2)) == pytest.approx(0.1 * 3**0.5, rel=0.05)
    assert (np.diff(away, axis=1) >= -1e-6).all()
    np.testing.assert_array_equal(found[..., 5], right[..., 5])


def test_hand_that_stays_does_not_scatter():
    still = np.zeros_like(rows())
    still[..., 4] = 1.0
    found = scatter(still, ScatterConfig(), np.random.default_rng(0))
    np.testing.assert_array_equal(found, still)


def test_prefixes_are_as_long_as_latencies_or_any_where_none_would_do():
    delays = LatencyHistogram(latencies_s=(0.0, 0.1, 2.0), weights=(0.5, 0.3, 0.2))
    found = draw_prefix_rows(20000, 8, delays, np.random.default_rng(0))[:, 0]
    shares = np.bincount(found, minlength=9) / len(found)
    anything = 0.2 / 9
    assert shares[0] == pytest.approx(0.5 + anything, abs=0.02)
    assert shares[4] == pytest.approx(0.3 + anything, abs=0.02)  # 0.1 s: three rows and a bit
    assert shares[8] == pytest.approx(anything, abs=0.01)
    assert len(shares) == 9


torch = pytest.importorskip("torch")

from vla_ros.learning.flow_data import make_pool
from vla_ros.learning.flow_head import Told, clean_rows, flow_shapes, sample, velocity
from vla_ros.learning.flow_training import FlowTraining, TrainedPolicy
from vla_ros.learning.parameters import initial_arrays, to_tensors


@pytest.fixture(scope="module")
def weights():
    return to_tensors(initial_arrays(flow_shapes(TINY, FLOW), 0), trained=False)


def told(n=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Told(
        base=torch.randn(n, 16, 6, generator=draw),
        spread=0.1 + torch.rand(n, 16, 6, generator=draw),
        condition=torch.tanh(torch.randn(n, FLOW.condition, generator=draw)),
    )


def silent(weights):
    return {n: torch.zeros_like(w) if n.startswith("flow/out") else w for n, w in weights.items()}


def number(value, n=2):
    kind = torch.int64 if isinstance(value, int) else torch.float32
    return torch.full((n, 1), value, dtype=kind)


def test_without_the_network_labels_are_normal_about_the_expert_s_rows(weights):
    about = told(512)
    about = Told(about.base[:1].expand(512, 16, 6), 0.5 + 0.0 * about.spread, about.condition)
    noise = torch.randn(512, 16, 6, generator=torch.Generator().manual_seed(1))
    many = dataclasses.replace(FLOW, denoising_steps=100)
    found = sample(silent(weights), many, noise, about)
    assert torch.allclose(found.mean(0), about.base[0], atol=0.1)
    assert found.std(0).mean().item() == pytest.approx(0.5, rel=0.05)


def test_rows_of_a_prefix_are_clean_and_do_not_move(weights):
    about, x = told(), torch.randn(2, 16, 6)
    d = clean_rows(weights, x, number(0.3), number(5), about)
    v = velocity(weights, x, number(0.3), number(5), about)
    torch.testing.assert_close(d[:, :5], x[:, :5], atol=1e-5, rtol=1e-5)
    assert torch.equal(v[:, :5], torch.zeros(2, 5, 6))
    assert v[:, 5:].abs().min() > 0.0


def test_rest_depends_on_the_prefix(weights):
    about, noise = told(), torch.randn(2, 16, 6)
    one = sample(weights, FLOW, noise, about, about.base[:, :4])
    other = sample(weights, FLOW, noise, about, about.base[:, :4] + 0.5)
    assert torch.equal(one[:, :4], about.base[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


def trained(until, policy=None, **changes):
    policy = policy or TrainedPolicy(initial_weights(TINY, 0), TINY, default_vocabulary())
    config = dataclasses.replace(CONFIG, **changes)
    sampler = BatchSampler(
        made_up_data(), np.arange(2), policy.words, tiny_training().sampling, config.seed
    )
    pool = make_pool(policy.weights, policy.config, sampler, config.pool_batches)
    training = FlowTraining(config, policy, pool, pool)
    losses = []
    training.run(until, lambda step, values: losses.append(values["loss"]))
    return training, losses


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole, losses = trained(6)
    save_checkpoint(tmp_path / "checkpoint.npz", trained(3)[0].checkpoint())
    second, _ = trained(0)
    second.restore(load_checkpoint(tmp_path / "checkpoint.npz"))
    rest = []
    second.run(6, lambda step, values: rest.append(values["loss"]))
    assert rest == losses[3:]
    for name, values in whole.checkpoint().arrays.items():
        np.testing.assert_array_equal(second.checkpoint().arrays[name], values, err_msg=name)


def test_frozen_policy_is_in_the_checkpoint_as_it_was():
    before = initial_weights(TINY, 0)
    arrays = trained(2)[0].checkpoint().arrays
    for name, values in before.items():
        np.testing.assert_array_equal(arrays[f"frozen:{name}"], values)


def test_checkpoint_of_another_policy_or_setting_is_refused():
    checkpoint = trained(1)[0].checkpoint()
    other = TrainedPolicy(initial_weights(TINY, 1), TINY, default_vocabulary())
    with pytest.raises(ConfigError, match="policy_sha256"):
        trained(0, other)[0].restore(checkpoint)
    with pytest.raises(ConfigError, match="another scatter"):
        trained(0, scatter=ScatterConfig(way_share=0.2))[0].restore(checkpoint)


def test_check_measures_samples_in_millimetres():
    found = trained(1)[0].check()
    assert found["spread_mm"] > 0.0
    assert 0.0 <= found["gripper"] <= 1.0


onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from vla_ros.learning.flow_export import export_flow
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.rehearsal import guided_request, made_up_observation
from vla_ros.policies.onnx.session import PolicyRuntime

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
    assert run.execution.failures == 0
    assert len(run.plans) > 20
    largest, n = run.kept.kept_share()
    if strategy == "rtc_trained":
        assert n >= 2
        assert largest < 1e-6


def test_guidance_draws_rows_to_the_plan(policy):
    view = seen(policy)
    free = policy.infer_now(view)
    moved = dataclasses.replace(free, positions=free.positions + [0.0, 0.0, 0.02])
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
