# SPDX-License-Identifier: Apache-2.0
"""Weights beside a graph are used only from inside the folder, and only as they were hashed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_samples import BASE_ROWS, fast_model, write_split

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime

QUIET = PolicyRuntime(report=lambda text: None)


def with_external_rows(location: str) -> onnx.ModelProto:
    """The fast graph with its base rows in another file."""
    made = fast_model()
    for value in made.graph.initializer:
        if value.name == "base":
            value.ClearField("raw_data")
            value.data_location = TensorProto.EXTERNAL
            for key, text in (("location", location), ("length", str(BASE_ROWS.nbytes))):
                entry = value.external_data.add()
                entry.key, entry.value = key, text
    return made


def write(folder: Path, location: str, at: Path | None = None, listed: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (at or folder / location).write_bytes((2.0 * BASE_ROWS).tobytes())
    files = ["vocabulary.json", *([listed] if listed else [])]
    return write_split(folder, fast=with_external_rows(location), files=files)


def load(path: Path) -> GraphSession:
    return GraphSession(open_policy(path), "fast", QUIET)


def test_weights_in_a_listed_file_are_used(tmp_path):
    session = load(write(tmp_path / "p", "fast.bin", listed="fast.bin"))
    outputs, _ = session.run({t.name: t.zeros() for t in session.spec.inputs})
    np.testing.assert_allclose(outputs["actions"], 2.0 * BASE_ROWS)


def test_weights_that_were_changed_are_refused(tmp_path):
    path = write(tmp_path / "p", "fast.bin", listed="fast.bin")
    (path / "fast.bin").write_bytes(BASE_ROWS.tobytes())
    with pytest.raises(ConfigError, match=r"fast\.bin .* truncated or changed"):
        load(path)


def test_weights_in_a_file_that_is_not_listed_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"weights in 'fast\.bin', which is not under files"):
        load(write(tmp_path / "p", "fast.bin"))


@pytest.mark.parametrize("kind", ["parent", "absolute"])
def test_weights_outside_the_folder_are_refused(tmp_path, kind):
    secret = tmp_path / "secret.bin"
    location = "../secret.bin" if kind == "parent" else str(secret)
    with pytest.raises(ConfigError, match=r"secret\.bin', outside its folder"):
        load(write(tmp_path / "p", location, at=secret))


def test_weights_behind_a_link_out_of_the_folder_are_refused(tmp_path):
    path = write(tmp_path / "p", "fast.bin", listed="fast.bin")
    (path / "fast.bin").rename(tmp_path / "secret.bin")
    (path / "fast.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ConfigError, match="outside the policy's folder"):
        load(path)


def test_location_that_names_memory_is_refused(tmp_path):
    # ONNX Runtime takes this for an address in its own process.
    made = with_external_rows("*/_ORT_MEM_ADDR_/*")
    with pytest.raises(ConfigError, match="which is not under files"):
        load(write_split(tmp_path / "p", fast=made))


def test_model_with_compiled_code_inside_is_refused(tmp_path):
    made = fast_model()
    node = helper.make_node("EPContext", ["state"], ["x"], domain="com.microsoft")
    made.graph.node.append(node)
    with pytest.raises(ConfigError, match="has an operator EPContext"):
        load(write_split(tmp_path / "p", fast=made))
