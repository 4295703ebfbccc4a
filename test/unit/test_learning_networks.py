# SPDX-License-Identifier: Apache-2.0
"""Properties that the networks have before any training."""

from __future__ import annotations

import numpy as np
import pytest
from learning_samples import TINY

from vla_ros.errors import ConfigError
from vla_ros.learning import state_vector as sv
from vla_ros.learning.expert import _way
from vla_ros.learning.model import fast_half, initial_weights, model_shapes, slow_half
from vla_ros.learning.parameters import check_arrays, count, to_tensors

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def weights():
    return to_tensors(initial_weights(TINY, 0), trained=False)


def images(seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (1, 2, 224, 224, 3), dtype=np.uint8))


def tokens(*words):
    return torch.tensor([[*words] + [0] * (16 - len(words))])


def test_weights_of_the_default_model_stay_below_the_size_that_a_repository_takes():
    from vla_ros.learning.model_config import ModelConfig

    assert 4 * count(model_shapes(ModelConfig())) < 10e6 / 2  # twice: also as one graph


def test_latent_and_actions_have_the_shapes_of_the_contract(weights):
    latent = slow_half(weights, TINY, images(), tokens(2, 3))
    assert latent.shape == (1, TINY.tokens, TINY.token_dim)
    state = torch.tensor([sv.STATE_CENTRE])
    small = images()[:, 1, :52, :56]
    actions, done = fast_half(weights, TINY, latent, torch.tensor([[0.5]]), state, small)
    assert actions.shape == (1, 16, 6)
    assert done.shape == (1, 1)
    np.testing.assert_allclose(actions[0, 0, :5], [0, 0, 0, 0, 1], atol=1e-7)
    widths = actions[0, :, 5]
    assert ((widths >= 0.01) & (widths <= 0.08)).all()


def test_padding_changes_nothing_and_words_do(weights):
    def latent(t):
        return slow_half(weights, TINY, images(), t)

    one = latent(tokens(2, 3))
    assert torch.equal(one, latent(tokens(2, 3)))
    assert not torch.allclose(one, latent(tokens(2, 4)))
    shorter = latent(torch.tensor([[2, 3, 0]]))
    torch.testing.assert_close(one, shorter, atol=1e-5, rtol=1e-4)


def test_rows_that_carry_the_tick_code_are_not_seen(weights):
    marked = images().clone()
    marked[:, :, -8:] = 255
    words = tokens(2, 3)
    assert torch.equal(
        slow_half(weights, TINY, images(), words), slow_half(weights, TINY, marked, words)
    )


def test_way_to_a_goal_turns_with_goal_and_velocity(weights):
    random = torch.Generator().manual_seed(0)
    goal, state = torch.randn(5, 4, generator=random), torch.randn(5, 24, generator=random)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=random)).Q
    rows, turns = _way(weights, goal, state)
    turned_goal, turned_state = goal.clone(), state.clone()
    turned_goal[:, :3] = goal[:, :3] @ Q
    turned_state[:, sv.REF_VELOCITY] = state[:, sv.REF_VELOCITY] @ Q
    turned_rows, same_turns = _way(weights, turned_goal, turned_state)
    torch.testing.assert_close(turned_rows, rows @ Q, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(same_turns, turns)
    assert torch.equal(rows[:, 0], torch.zeros(5, 3))


def test_hand_at_rest_on_its_goal_stays_there(weights):
    rows, turns = _way(weights, torch.zeros(1, 4), torch.zeros(1, 24))
    assert torch.equal(rows, torch.zeros(1, 16, 3))
    assert torch.equal(turns, torch.zeros(1, 16))


def test_age_that_is_not_told_is_told_apart_from_every_age(weights):
    latent, state = torch.ones(1, TINY.tokens, TINY.token_dim), torch.tensor([sv.STATE_CENTRE])
    small = images()[:, 1, :52, :56]
    found = [
        fast_half(weights, TINY, latent, torch.tensor([[age]]), state, small)[1].item()
        for age in (-1.0, -5.0, 0.0, 1.0)
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("harm", ["missing", "unknown", "shape", "nan", "dtype"])
def test_weights_that_are_not_of_the_model_are_refused(harm):
    arrays = initial_weights(TINY, 0)
    name = "trunk/stem/w"
    if harm == "missing":
        del arrays[name]
    elif harm == "unknown":
        arrays["trunk/extra/w"] = np.zeros(1, dtype=np.float32)
    elif harm == "shape":
        arrays[name] = arrays[name][:1]
    elif harm == "nan":
        arrays[name][0] = np.nan
    else:
        arrays[name] = arrays[name].astype(np.float64)
    with pytest.raises(ConfigError, match="weights"):
        check_arrays(arrays, model_shapes(TINY))
