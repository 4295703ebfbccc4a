# SPDX-License-Identifier: Apache-2.0
"""The flow head: what holds before any training, and how it is trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flow_samples import FLOW, trained
from learning_samples import TINY

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.learning.flow_config import ScatterConfig
from vla_ros.learning.flow_head import Told, clean_rows, flow_shapes, sample, velocity
from vla_ros.learning.flow_training import TrainedPolicy
from vla_ros.learning.model import initial_weights
from vla_ros.learning.parameters import initial_arrays, to_tensors
from vla_ros.learning.vocabulary import default_vocabulary

torch = pytest.importorskip("torch")


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
