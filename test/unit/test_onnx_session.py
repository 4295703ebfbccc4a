# SPDX-License-Identifier: Apache-2.0
"""A graph runs only if it is what its manifest says, and its outputs are used only if they are."""

from __future__ import annotations

import importlib.util
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_samples import (
    BASE_ROWS,
    A,
    H,
    cancels_at_once,
    constant,
    description,
    endless_model,
    fast_model,
    model,
    slow_model,
    tensor,
    write_split,
)

from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.write import write_manifest
from vla_ros.policies.onnx import session as session_module
from vla_ros.policies.onnx.ort_backend import (
    OrtBackend,
    _DeviceBinding,
    import_onnxruntime,
    operators_elsewhere,
)
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.run_limit import RunLimit

QUIET = PolicyRuntime(report=lambda text: None)


def zeros(session: GraphSession) -> dict:
    return {t.name: t.zeros() for t in session.spec.inputs}


def fast(folder: Path, runtime: PolicyRuntime = QUIET, **write) -> GraphSession:
    return GraphSession(open_policy(write_split(folder, **write)), "fast", runtime)


def test_round_trip_gives_what_the_graph_computes(tmp_path):
    session = fast(tmp_path)
    feeds = zeros(session) | {"latent_age_s": np.array([[0.5]], dtype=np.float32)}
    outputs, _ = session.run(feeds)
    expected = BASE_ROWS.copy()
    expected[..., 1] = 0.05
    np.testing.assert_allclose(outputs["actions"], expected, atol=1e-7)


def test_named_batch_is_bound_to_one(tmp_path):
    path = write_split(
        tmp_path,
        slow=slow_model("n"),
        graphs__slow__inputs__image__shape=["n", 2, 12, 12, 3],
        graphs__slow__inputs__tokens__shape=["n", 7],
        graphs__slow__outputs__latent__shape=["n", 1, 4],
    )
    session = GraphSession(open_policy(path), "slow", QUIET)
    assert session.run(zeros(session))[0]["latent"].shape == (1, 1, 4)


def with_input(name: str, dtype: int, shape: list) -> object:
    """The fast graph with one input of another type, shape or name; it need not be used."""
    made = fast_model()
    inputs = [i for i in made.graph.input if i.name != "noise"]
    nodes = [n for n in made.graph.node if "noise" not in n.input and "n0" not in n.input]
    nodes[-1].input[0] = "sensed"
    return model(
        nodes,
        [*inputs, tensor(name, dtype, shape)],
        [*made.graph.output],
        [*made.graph.initializer],
    )


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        (
            "noise",
            TensorProto.FLOAT,
            [1, H, A + 1],
            rf"input noise is float32 \[1, {H}, {A + 1}\], "
            rf"the manifest says float32 \[1, {H}, {A}\]",
        ),
        ("noise", TensorProto.DOUBLE, [1, H, A], "input noise is float64"),
        ("noise", TensorProto.FLOAT16, [1, H, A], "input noise is float16"),
        ("noise", TensorProto.FLOAT, ["n", H, A], "input noise is float32 .'n'"),
        ("chaos", TensorProto.FLOAT, [1, H, A], "has an input 'chaos' that the manifest lacks"),
    ],
)
def test_graph_that_differs_from_its_manifest_is_refused(tmp_path, name, dtype, shape, message):
    with pytest.raises(ConfigError, match=message):
        fast(tmp_path, fast=with_input(name, dtype, shape))


def test_input_and_output_that_the_graph_lacks_are_named(tmp_path):
    made = fast_model()
    made.graph.output[0].name = "sensed"
    with pytest.raises(ConfigError, match="has an output 'sensed' that the manifest lacks"):
        fast(tmp_path, fast=made)
    path = write_split(tmp_path)
    data = description()
    data["graphs"]["fast"]["inputs"]["mask"] = {
        "role": "image_mask",
        "dtype": "bool",
        "shape": [1, 1],
    }
    data["graphs"]["fast"]["inputs"]["wrist"] = {
        "role": "images",
        "dtype": "uint8",
        "shape": [1, 4, 4, 3],
        "cameras": ["wrist"],
    }
    write_manifest(path, data)
    with pytest.raises(ConfigError, match="has no input 'mask'; it has latent, latent_age_s"):
        GraphSession(open_policy(path), "fast", QUIET)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"state": np.zeros((1, 5), np.float32)}, r"input state must be float32 \(1, 4\), got"),
        ({"state": np.zeros((1, 4))}, "got float64"),
        ({"state": None}, "input state is missing"),
    ],
)
def test_input_that_does_not_fit_is_refused_before_the_run(tmp_path, feeds, message):
    session = fast(tmp_path)
    with pytest.raises(PolicyError, match=message):
        session.run({k: v for k, v in (zeros(session) | feeds).items() if v is not None})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_output_that_is_not_finite_is_refused(tmp_path, bad):
    rows = BASE_ROWS.copy()
    rows[0, 3, 1] = bad
    session = fast(tmp_path, fast=fast_model(rows))
    with pytest.raises(PolicyError, match="output actions is not finite"):
        session.run(zeros(session))


def test_output_of_another_shape_than_promised_is_refused(tmp_path):
    # The graph promises (1, H, A), for ONNX cannot see through a shape that is computed.
    made = fast_model()
    made.graph.node[-1].output[0] = "rows"
    shaped = model(
        [
            *made.graph.node,
            helper.make_node("Cast", ["latent_age_s"], ["count"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["count", "flat"], ["count1"]),
            helper.make_node("Max", ["count1", "least"], ["count2"]),
            helper.make_node("Slice", ["rows", "start", "count2", "axis"], ["actions"]),
        ],
        [*made.graph.input],
        [*made.graph.output],
        [
            *made.graph.initializer,
            constant("flat", [1], np.int64),
            constant("least", [2], np.int64),
            constant("start", [0], np.int64),
            constant("axis", [1], np.int64),
        ],
    )
    lenient = PolicyRuntime(session=SessionSettings(provider="cpu", warmup_runs=0))
    session = fast(tmp_path, lenient, fast=shaped)
    with pytest.raises(PolicyError, match=rf"actions must be .* \(1, {H}, {A}\), got .* \(1, 2"):
        session.run(zeros(session))


def test_provider_that_is_not_there_is_an_error_naming_those_that_are(tmp_path):
    for wanted in ("cuda", "tensorrt"):
        runtime = PolicyRuntime(session=SessionSettings(provider=wanted))
        with pytest.raises(ConfigError, match=f"provider '{wanted}' is not available.*: cpu$"):
            fast(tmp_path, runtime)


def test_tensorrt_without_its_package_says_what_to_install(tmp_path):
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    runtime = PolicyRuntime(session=SessionSettings(provider="tensorrt_engine"))
    with pytest.raises(ConfigError, match="needs the packages tensorrt and cuda-python"):
        fast(tmp_path, runtime)


def test_fallback_is_reported_and_described(tmp_path):
    told: list[str] = []
    session = fast(tmp_path, PolicyRuntime(report=told.append))
    assert session.provider == "cpu"
    assert told == ["fast.onnx runs on cpu: this ONNX Runtime is built without tensorrt and cuda"]
    assert "built without tensorrt and cuda" in session.description


def test_asking_for_the_cpu_is_no_fallback(tmp_path):
    told: list[str] = []
    settings = SessionSettings(provider="cpu", threads=2)
    session = fast(tmp_path, PolicyRuntime(session=settings, report=told.append))
    assert told == []
    assert session.description.endswith("on cpu, 2 threads")


def test_operators_that_run_elsewhere_are_counted(tmp_path):
    folder = open_policy(write_split(tmp_path))
    graph = folder.manifest.graphs["fast"]
    settings = SessionSettings(provider="cpu")
    backend = OrtBackend(graph, folder.read(graph.file), tmp_path, settings, print)
    assert operators_elsewhere(backend._session, "CPUExecutionProvider") == ""
    found = operators_elsewhere(backend._session, "CUDAExecutionProvider")
    assert re.fullmatch(r"of (\d+) operators \1 on CPUExecutionProvider", found)


def test_endless_run_ends_when_it_is_cancelled(tmp_path):
    runtime = PolicyRuntime(
        session=SessionSettings(provider="cpu", warmup_runs=0), guard=cancels_at_once
    )
    session = fast(tmp_path, runtime, fast=endless_model())
    with pytest.raises(PolicyError, match="terminate"):
        session.run(zeros(session))


def test_endless_run_is_ended_by_its_limit_and_the_next_run_is_not(tmp_path):
    limit = RunLimit(0.05)
    runtime = PolicyRuntime(session=SessionSettings(provider="cpu", warmup_runs=0), guard=limit)
    session = fast(tmp_path, runtime, fast=endless_model())
    with pytest.raises(PolicyTimeoutError, match=r"tiny/fast took longer than 0\.05 s: ended"):
        session.run(zeros(session))
    good = fast(tmp_path / "good", PolicyRuntime(session=SessionSettings(), guard=RunLimit(60.0)))
    good.run(zeros(good))
    limit.close()


def test_endless_model_cannot_even_be_loaded(tmp_path):
    limit = RunLimit(0.05)
    with pytest.raises(PolicyTimeoutError):
        fast(tmp_path, PolicyRuntime(load_guard=limit, report=print), fast=endless_model())
    limit.close()


def test_session_that_never_comes_up_is_reported_and_given_up(tmp_path, monkeypatch):
    stuck: list[str] = []
    heard = threading.Event()

    def on_stuck(why: str) -> None:
        stuck.append(why)
        heard.set()

    class Hanging:
        def __init__(self, *_: object) -> None:
            assert heard.wait(10.0)

    monkeypatch.setattr(session_module, "OrtBackend", Hanging)
    limit = RunLimit(0.01, on_stuck, grace_s=0.01)
    with pytest.raises(PolicyTimeoutError, match="making a session of tiny/fast took longer"):
        fast(tmp_path, PolicyRuntime(open_guard=limit))
    limit.close()
    assert stuck == ["making a session of tiny/fast does not end 0.01 s after it was told to"]


def test_time_of_a_call_is_told_by_parts_and_warm_up_is_not_counted(tmp_path):
    ticks = iter(range(0, 10**9, 1_000_000))
    runtime = PolicyRuntime(
        session=SessionSettings(provider="cpu", warmup_runs=3), now_ns=lambda: next(ticks)
    )
    session = fast(tmp_path, runtime)
    assert len(session.statistics) == 0
    _, timing = session.run(zeros(session))
    assert (timing.pre_ns, timing.queue_ns, timing.compute_ns) == (10**6, 10**6, 10**6)
    assert timing.post_ns == 2 * 10**6
    assert session.statistics.quantile_ms(0.5) == 5.0
    assert session.diagnostics()["fast.compute_ms_p50"] == "1.000"


def test_buffers_of_a_device_give_the_same_as_a_plain_run(tmp_path):
    folder = open_policy(write_split(tmp_path))
    graph, ort = folder.manifest.graphs["fast"], import_onnxruntime()
    model_bytes = folder.read(graph.file)
    backend = OrtBackend(graph, model_bytes, tmp_path, SessionSettings(), lambda text: None)
    binding = _DeviceBinding(ort, backend._session, graph, 0, device="cpu")
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds = {t.name: rng.normal(size=t.size).astype(t.dtype) for t in graph.inputs}
        run = backend.new_run()
        expected = backend.run(feeds, run)["actions"]
        np.testing.assert_array_equal(binding.run(feeds, run.options)["actions"], expected)
