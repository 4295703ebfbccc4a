# SPDX-License-Identifier: Apache-2.0
"""Stages of the set-up run once, again when an input changes, and leave nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.ros import relocate_wheels
from bootstrap.shell import Shell
from bootstrap.stage import Stage, Stamps, files_under, hash_inputs, run_stage


def make_stage(folder: Path, action: Callable[[], None], key: str = "key") -> Stage:
    return Stage("part", key, (folder / "product",), action)


def writing(folder: Path, error: BaseException | None = None) -> Callable[[], None]:
    def action() -> None:
        (folder / "product").mkdir(exist_ok=True)
        (folder / "product" / "file").touch()
        if error is not None:
            raise error

    return action


def test_run_stage_marks_success_and_keeps_the_product(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    stage = make_stage(tmp_path, writing(tmp_path))
    run_stage(stage, stamps)
    assert stamps.is_done(stage)
    assert (tmp_path / "product" / "file").exists()


def test_stage_is_due_again_when_its_inputs_changed(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    run_stage(make_stage(tmp_path, writing(tmp_path), key="old"), stamps)
    assert not stamps.is_done(make_stage(tmp_path, writing(tmp_path), key="new"))


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_first_attempt_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    stamps = Stamps(tmp_path / "stamps")
    stage = make_stage(tmp_path, writing(tmp_path, error))
    with pytest.raises(type(error)):
        run_stage(stage, stamps)
    assert not stamps.was_done(stage)
    assert not (tmp_path / "product").exists()


def test_later_attempt_that_fails_keeps_the_build_folder(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    run_stage(make_stage(tmp_path, writing(tmp_path), key="old"), stamps)
    failing = make_stage(tmp_path, writing(tmp_path, RuntimeError("typing error")), key="new")
    with pytest.raises(RuntimeError):
        run_stage(failing, stamps)
    assert not stamps.is_done(failing)
    assert (tmp_path / "product" / "file").exists()


def test_leftovers_of_a_killed_attempt_are_removed_first(tmp_path: Path) -> None:
    (tmp_path / "product").mkdir()
    (tmp_path / "product" / "half").touch()
    run_stage(make_stage(tmp_path, writing(tmp_path)), Stamps(tmp_path / "stamps"))
    assert not (tmp_path / "product" / "half").exists()


def test_hash_inputs_depends_on_names_contents_and_facts(tmp_path: Path) -> None:
    (tmp_path / "a.msg").write_text("x")
    files = files_under(tmp_path, "*.msg")
    before = hash_inputs(tmp_path, files, "fact")
    assert hash_inputs(tmp_path, files, "fact") == before
    assert hash_inputs(tmp_path, files, "other") != before
    (tmp_path / "a.msg").rename(tmp_path / "b.msg")
    renamed = hash_inputs(tmp_path, files_under(tmp_path, "*.msg"), "fact")
    assert renamed != before
    (tmp_path / "b.msg").write_text("y")
    assert hash_inputs(tmp_path, files_under(tmp_path, "*.msg"), "fact") != renamed


def test_relocate_wheels_replaces_both_paths_once(tmp_path: Path) -> None:
    cmake = tmp_path / "share" / "some_msgs" / "cmake" / "export.cmake"
    cmake.parent.mkdir(parents=True)
    built = "/opt/python/cp311-cp311"
    cmake.write_text(
        f'INCLUDES "{built}/include/python3.11;'
        f'{built}/lib/python3.11/site-packages/numpy/_core/include;${{PREFIX}}/include"'
    )
    assert relocate_wheels(tmp_path, "/usr/include/python3.11", "/venv/numpy/include") == 1
    assert cmake.read_text() == (
        'INCLUDES "/usr/include/python3.11;/venv/numpy/include;${PREFIX}/include"'
    )
    assert relocate_wheels(tmp_path, "/usr/include/python3.11", "/venv/numpy/include") == 0


def test_shell_refuses_commands_once_stopped(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "log", {}, tmp_path)
    shell.run(["/bin/sh", "-c", "echo $WORD"], WORD="said")
    assert "said" in (tmp_path / "log").read_text()
    shell.stop()
    with pytest.raises(KeyboardInterrupt):
        shell.run(["/bin/sh", "-c", "true"])
