# SPDX-License-Identifier: Apache-2.0
"""Training: the same seed gives the same weights, also across an interruption."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from learning_samples import made_up_data, tiny_training

from vla_ros.errors import ConfigError, RecordingError
from vla_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.learning.dataset import load_dataset
from vla_ros.learning.optimizer import OptimizerConfig
from vla_ros.learning.sampling import BatchSampler, SamplingConfig
from vla_ros.learning.vocabulary import default_vocabulary

pytest.importorskip("torch")

from vla_ros.learning.training import Training


def trained(until, **changes):
    training = Training(tiny_training(**changes), made_up_data())
    losses = []
    training.run(until, lambda step, values: losses.append(values["loss"]))
    return training, losses


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole, losses = trained(6)
    first, _ = trained(3)
    save_checkpoint(tmp_path / "checkpoint.npz", first.checkpoint())
    second = Training(tiny_training(), made_up_data())
    second.restore(load_checkpoint(tmp_path / "checkpoint.npz"))
    rest = []
    second.run(6, lambda step, values: rest.append(values["loss"]))
    assert rest == losses[3:]
    assert_equal(second.weights(), whole.weights())
    assert_equal(second.checkpoint().arrays, whole.checkpoint().arrays)


def test_another_seed_gives_other_weights():
    one, other = trained(1)[0].weights(), trained(1, seed=1)[0].weights()
    assert not np.array_equal(one["trunk/stem/w"], other["trunk/stem/w"])


def test_loss_goes_down_on_few_demonstrations():
    optimizer = OptimizerConfig(learning_rate=3e-3, warmup_steps=5)
    _, losses = trained(40, steps=40, optimizer=optimizer)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_check_measures_errors_in_centimetres_and_shares():
    found = trained(1)[0].check()
    assert 0.0 <= found["gripper"] <= 1.0
    assert found["pick_p95_cm"] >= found["pick_cm"] > 0.0


def test_checkpoint_of_another_configuration_is_refused():
    training, _ = trained(1)
    other = Training(tiny_training(seed=3), made_up_data())
    with pytest.raises(ConfigError, match="another seed"):
        other.restore(training.checkpoint())


def test_checkpoint_that_lacks_an_array_is_refused():
    training, _ = trained(1)
    checkpoint = training.checkpoint()
    del checkpoint.arrays["moment1:trunk/stem/w"]
    with pytest.raises(ConfigError, match="moment1"):
        Training(tiny_training(), made_up_data()).restore(checkpoint)


@pytest.mark.parametrize("harm", ["missing", "truncated", "text", "pickle"])
def test_file_that_is_no_checkpoint_is_refused(harm, tmp_path):
    path = tmp_path / "checkpoint.npz"
    if harm == "truncated":
        save_checkpoint(path, trained(1)[0].checkpoint())
        path.write_bytes(path.read_bytes()[:-2000])
    elif harm == "text":
        path.write_text("weights", encoding="utf-8")
    elif harm == "pickle":
        np.savez(path, about=np.array([{"step": 1}], dtype=object))
    with pytest.raises(ConfigError):
        load_checkpoint(path)


def sampler(data=None, **changes):
    data = data or made_up_data(3)
    config = SamplingConfig(**({"batch_frames": 64, "frame_steps": 3} | changes))
    return data, BatchSampler(data, np.arange(len(data)), default_vocabulary(), config, 7)


def test_steps_act_on_an_earlier_image_of_their_own_episode_and_know_its_age():
    data, drawn = sampler(age_dropout=0.0, waited_share=0.0)
    batch = drawn.batch(0)
    wrists = data.arrays["wrist"].reshape(len(data.arrays["wrist"]), -1)
    states = data.arrays["state"]
    for i, image in enumerate(batch.wrist):
        (frame,) = np.flatnonzero((wrists == image.reshape(-1)).all(axis=1))
        for k in range(3 * i, 3 * i + 3):
            (step,) = np.flatnonzero((states == batch.state[k]).all(axis=1))
            assert step // 12 == frame // 4
            age = data.arrays["step_s"][step] - data.arrays["frame_s"][frame]
            assert batch.age_s[k, 0] == pytest.approx(age, abs=1e-6)
            assert age >= -1e-6


def test_pauses_make_latents_older_and_nothing_else_different():
    _, plain = sampler(age_dropout=0.0, waited_share=0.0, batch_frames=1)
    _, paused = sampler(age_dropout=0.0, waited_share=0.0, batch_frames=1, paused_share=0.5)
    older = []
    for i in range(200):
        one, two = plain.batch(i), paused.batch(i)
        np.testing.assert_array_equal(one.state, two.state)
        np.testing.assert_array_equal(one.anchors, two.anchors)
        np.testing.assert_array_equal(one.scene, two.scene)
        older.append(two.age_s - one.age_s)
    assert np.min(older) >= 0.0
    assert np.mean(np.array(older) > 0.0) == pytest.approx(0.5, abs=0.07)


def test_age_is_hidden_as_often_as_asked_for():
    _, drawn = sampler(age_dropout=0.4)
    hidden = np.mean([np.mean(drawn.batch(i).age_s < 0.0) for i in range(10)])
    assert hidden == pytest.approx(0.4, abs=0.05)


def test_held_out_goals_are_never_asked_for_in_passing():
    _, drawn = sampler()
    words = default_vocabulary().words
    for i in range(20):
        for row in drawn.batch(i).other.tokens:
            said = {words[t] for t in row}
            assert not said >= {"red", "cyan"}
            assert not said >= {"blue", "purple"}


def test_same_batch_for_the_same_number_and_seed():
    _, one = sampler()
    _, two = sampler()
    for field in dataclasses.fields(one.batch(3)):
        a, b = getattr(one.batch(3), field.name), getattr(two.batch(3), field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.batch(3).state, one.batch(4).state)


def test_file_of_arrays_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "episode_0.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(RecordingError, match="damaged"):
        load_dataset([path])
    with pytest.raises(RecordingError, match="no successful"):
        load_dataset([])
