# SPDX-License-Identifier: Apache-2.0
"""The command line: it explains itself, and refuses bad input before anything starts."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from vla_ros import __version__, cli
from vla_ros.commands import doctor


@pytest.mark.parametrize("name", ["demo", "doctor", "nodes"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"vla-ros {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_every_command_has_arguments_and_a_run(name: str) -> None:
    module = importlib.import_module(f"vla_ros.commands.{name}")
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_help_of_the_demo_names_every_option_with_default_and_range(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        *("--episodes", "--seed", "--instruction", "--slow-latency-ms", "--slow-mode"),
        *("--busy-threads", "--headless", "--no-record", "--no-video", "--robot", "--out"),
        *("--port", "--threshold", "--max-duration-s", "--priority", "--keep-alive"),
    ):
        assert option in text, option
    assert "default: 300.0 ms, 0 to 20000" in text


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--robot", "ur5"], "ur5"),
        (["--episodes", "0"], "episodes must be 1 to 1000, got 0"),
        (["--threshold", "1.5"], "threshold must be 0.0 to 1.0, got 1.5"),
        (["--max-duration-s", "nan"], "max_duration_s must be 1.0 to 600.0 s, got nan"),
        (["--slow-latency-ms", "-5"], "slow_latency_ms must be 0.0 to 20000.0 ms, got -5.0"),
        (["--slow-mode", "lazy"], "slow_mode must be one of idle, busy, got 'lazy'"),
        (["--priority", "high"], "priority must be one of auto, fifo, normal, got 'high'"),
        (["--instruction", "make coffee"], "'make' is not understood"),
        (["--instruction", "put the pink cube in the cyan bowl"], "pink"),
        (["--instruction", "x" * 10_000], "10000 characters"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert cli.main(["demo", "--policy", "classical", "--out", str(out), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not out.exists()  # nothing has been started


def test_robot_file_that_is_not_yaml_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: [fr3", encoding="utf-8")
    assert cli.main(["demo", "--out", str(tmp_path / "runs"), "--robot", str(path)]) == 2
    assert "is not YAML" in capsys.readouterr().err


def test_word_instead_of_a_number_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["demo", "--episodes", "many"])
    assert exit_info.value.code == 2
    assert "--episodes" in capsys.readouterr().err


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["dance"])
    assert exit_info.value.code == 2
    assert "demo" in capsys.readouterr().err


def test_nodes_lists_the_nodes_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policy", "classical", "--slow-latency-ms", "123", "--no-viewer"]
    assert cli.main(["nodes", *options]) == 0
    text = capsys.readouterr().out
    assert "control_node  (nice 0, the run ends with it)" in text
    assert "slow_latency_ms: 123.0" in text
    assert "viewer_node" not in text


def test_doctor_fails_only_on_what_the_demo_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = doctor.Finding("Python", doctor.Level.OK, "3.12")
    warning = doctor.Finding("FIFO", doctor.Level.WARNING, "not permitted", "edit limits.conf")
    failed = doctor.Finding("EGL", doctor.Level.FAILED, "missing", "install it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: good, lambda: warning))
    assert cli.main(["doctor"]) == 0
    assert "-> edit limits.conf" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", (lambda: good, lambda: failed))
    assert cli.main(["doctor"]) == 1
    assert "FAIL  EGL" in capsys.readouterr().out


def test_doctor_reports_a_module_that_is_missing() -> None:
    finding = doctor.check_module("no_such_module_at_all", "Something")
    assert finding.level is doctor.Level.FAILED
    assert "no_such_module_at_all" in finding.detail


@pytest.mark.parametrize(
    "check",
    [doctor.check_python, doctor.check_cores, doctor.check_shared_memory, doctor.check_fifo],
)
def test_doctor_s_checks_give_a_name_and_a_detail(check: object) -> None:
    finding = check()  # type: ignore[operator]
    assert finding.name
    assert finding.detail
