# SPDX-License-Identifier: Apache-2.0
"""Only the files that a manifest was written for are read, and only inside its folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx_samples import write_split

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import contained, open_policy, read_contained
from vla_ros.policies.manifest.write import write_manifest


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_split(tmp_path / "policy")


def rename(policy: Path, old: str, new: str) -> None:
    """Change a file's name in the manifest alone."""
    path = policy / "manifest.yaml"
    path.write_text(path.read_text().replace(old, new))


def test_every_file_is_what_the_manifest_was_written_for(policy):
    folder = open_policy(policy / "manifest.yaml")
    for name in folder.manifest.all_files:
        assert folder.read(name) == (policy / name).read_bytes()
        assert folder.verify(name) == (policy / name).resolve()


def test_files_that_nobody_reads_are_reported(policy):
    (policy / "notes.txt").write_text("x")
    assert open_policy(policy).unlisted() == ["notes.txt"]


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_truncated_file_is_refused(policy, keep):
    data = (policy / "fast.onnx").read_bytes()
    (policy / "fast.onnx").write_bytes(data[:keep])
    folder = open_policy(policy)
    for read in (folder.read, folder.verify):
        with pytest.raises(ConfigError, match=r"fast\.onnx .* truncated or changed; sha256"):
            read("fast.onnx")


@pytest.mark.parametrize("name", ["slow.onnx", "vocabulary.json"])
def test_one_flipped_bit_is_noticed(policy, name):
    data = bytearray((policy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (policy / name).write_bytes(data)
    with pytest.raises(ConfigError, match="truncated or changed"):
        open_policy(policy).read(name)


@pytest.mark.parametrize("name", ["../slow.onnx", "/etc/passwd", "a/../../slow.onnx", "..\\\\s"])
def test_name_that_leads_out_of_the_folder_is_refused(policy, name):
    (policy.parent / "slow.onnx").write_bytes((policy / "slow.onnx").read_bytes())
    rename(policy, "file: slow.onnx", f'file: "{name}"')
    folder = open_policy(policy)
    graph = folder.manifest.graphs["slow"]
    with pytest.raises(ConfigError, match="must be a path inside the policy's folder"):
        folder.read(graph.file)


def test_link_out_of_the_folder_is_refused_and_one_inside_is_not(policy):
    outside = policy.parent / "weights.onnx"
    (policy / "slow.onnx").rename(outside)
    (policy / "slow.onnx").symlink_to(outside)
    with pytest.raises(ConfigError, match="outside the policy's folder"):
        open_policy(policy).read("slow.onnx")
    (policy / "slow.onnx").unlink()
    outside.rename(policy / "real.onnx")
    (policy / "slow.onnx").symlink_to("real.onnx")
    assert open_policy(policy).read("slow.onnx")


def test_linked_folder_out_of_the_folder_is_refused(policy, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("secret")
    (policy / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="outside the policy's folder"):
        read_contained(policy, "sub/x", 100)


def test_manifest_that_is_a_link_out_is_refused(policy, tmp_path):
    (policy / "manifest.yaml").rename(tmp_path / "m.yaml")
    (policy / "manifest.yaml").symlink_to(tmp_path / "m.yaml")
    with pytest.raises(ConfigError, match="outside the policy's folder"):
        open_policy(policy)


def test_folder_may_itself_be_reached_by_a_link(policy, tmp_path):
    (tmp_path / "latest").symlink_to(policy)
    assert open_policy(tmp_path / "latest").read("slow.onnx")


@pytest.mark.parametrize("name", ["slow.onnx", "vocabulary.json"])
def test_missing_file_is_named(policy, name):
    (policy / name).unlink()
    with pytest.raises(ConfigError, match=f"{name} cannot be read"):
        open_policy(policy).read(name)


def test_pipe_and_folder_in_place_of_a_file_are_refused_without_waiting(policy):
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        make(policy / name)
        with pytest.raises(ConfigError, match="is not a regular file"):
            read_contained(policy, name, 100)


def test_file_beyond_its_limit_is_refused_before_it_is_read(policy):
    with (policy / "slow.onnx").open("wb") as file:
        file.truncate(2**31)  # sparse: takes no room
    with pytest.raises(ConfigError, match="has 2147483648 bytes, at most 2147483647"):
        open_policy(policy).read("slow.onnx")


def test_file_without_a_hash_is_not_read(policy):
    (policy / "more.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"states no sha256 of 'more\.bin'"):
        open_policy(policy).read("more.bin")


@pytest.mark.parametrize("name", ["", ".", "x\0y"])
def test_name_of_nothing_is_refused(policy, name):
    with pytest.raises(ConfigError):
        read_contained(policy, name, 100)


def test_path_without_a_policy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no policy folder"):
        open_policy(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"manifest\.yaml cannot be read"):
        open_policy(tmp_path)
    (tmp_path / "manifest.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        open_policy(tmp_path)


def test_contained_resolves_to_one_place(policy):
    assert contained(policy, "./slow.onnx") == (policy / "slow.onnx").resolve()


def test_writer_refuses_what_a_reader_would(policy):
    with pytest.raises(ConfigError, match="graph slow needs a file"):
        write_manifest(policy, {"graphs": {"slow": {}}})
    with pytest.raises(ConfigError, match="cannot be read"):
        write_manifest(policy, {"graphs": {}, "files": ["missing.json"]})
    with pytest.raises(ConfigError, match="texts, numbers, lists and mappings"):
        write_manifest(policy, {"graphs": {}, "max_age_s": np.float64(1.0)})
