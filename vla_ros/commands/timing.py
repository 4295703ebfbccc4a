# SPDX-License-Identifier: Apache-2.0
"""``vla-ros timing``: do the loops keep their rates with everything on.

They must, however slow or busy the slow policy is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.bringup import free_port
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.registry import ALLOWED, DEFAULT_POLICY, resolve_policy_name

# (skipped [%], period p99 [us]) allowed, by what the control thread was given.
_LIMITS = {"fifo": (0.1, 1100.0), "normal": (1.0, 1500.0)}
_CHUNKS_HZ = 29.5
_INTERVAL_MS = 40.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, kw_only=True)
class TimingOptions:
    """What to measure."""

    slow_latency_ms: str = setting("0,500,2000", "slow latencies to try [ms], comma separated")
    modes: str = setting("idle,busy", "how the slow policy spends its time, comma separated")
    priorities: str = setting("normal,fifo", "scheduling of the control thread, comma separated")
    policy: str = setting(DEFAULT_POLICY, f"what runs while it is measured: {ALLOWED}")
    episodes: int = setting(3, "episodes per cell", ge=1, le=1000)
    viewer: str = setting(
        "client",
        "who watches: a client that takes everything and draws nothing, a headless browser that "
        "draws in software on the same cores, or nobody",
        choices=("client", "browser", "none"),
    )
    json: str = setting("", "file for the results")

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "policy", resolve_policy_name(self.policy))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to measure"), TimingOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run one demo per cell; 0 if every cell keeps the limits."""
    options = read_options(namespace, TimingOptions)
    say(
        "priority slow  mode   success  skipped  period p99  compute p99  chunks/s  interval p99  "
        "age error   lost"
    )
    rows: list[dict[str, Any]] = []
    for priority in options.priorities.split(","):
        if priority not in _LIMITS:
            raise ConfigError(f"priorities must be of {', '.join(_LIMITS)}, got {priority!r}")
        for mode in options.modes.split(","):
            for latency in options.slow_latency_ms.split(","):
                cell = {"priority": priority, "mode": mode, "slow_latency_ms": float(latency)}
                summary = _measure(cell, options)
                rows.append(cell | {"summary": summary, "ok": _judge(priority, summary)})
                _say_row(rows[-1])
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    ok = all(row["ok"] for row in rows)
    say("every limit kept" if ok else "a limit was broken")
    return 0 if ok else 1


def _measure(cell: dict[str, Any], options: TimingOptions) -> dict[str, Any]:
    port = free_port(8123)
    with tempfile.TemporaryDirectory(prefix="vla_ros_timing_") as folder:
        command = [sys.executable, "-m", "vla_ros.cli", "demo", "--no-video", "--out", folder]
        command += ["--episodes", str(options.episodes), "--port", str(port)]
        command += ["--policy", options.policy]
        command += ["--priority", cell["priority"], "--slow-mode", cell["mode"]]
        command += ["--slow-latency-ms", str(cell["slow_latency_ms"])]
        with _watched(options.viewer, port, Path(folder)) as received_bytes:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            cell["viewer_received_bytes"] = received_bytes()
        summary_path = Path(folder) / "latest" / "summary.json"
        if not summary_path.exists():
            raise ConfigError(f"the demo failed: {done.stderr.strip() or done.stdout.strip()}")
        summary: dict[str, Any] = json.loads(summary_path.read_text(encoding="utf-8"))
        return summary


@contextlib.contextmanager
def _watched(viewer: str, port: int, folder: Path) -> Iterator[Callable[[], int]]:
    """Keep a viewer on the live view; yields how many bytes it has received, if it can tell."""
    if viewer == "client":
        from vla_ros.viewer.client import BlindViewer

        with BlindViewer(port) as blind:
            yield lambda: blind.received_bytes
    elif viewer == "browser":
        with _browser(port, folder):
            yield lambda: 0
    else:
        yield lambda: 0


@contextlib.contextmanager
def _browser(port: int, folder: Path) -> Iterator[None]:
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise ConfigError(f"no browser found ({', '.join(_BROWSERS)})")
    page = folder / "wait.html"
    # The view is not there yet: this page goes to it as soon as it answers.
    page.write_text(
        f"<script>const u='http://127.0.0.1:{port}';setInterval(()=>fetch(u,{{mode:'no-cors'}})"
        ".then(()=>location=u).catch(()=>0),500)</script>",
        encoding="utf-8",
    )
    flags = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    flags += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    flags += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'browser'}", page.as_uri()]
    command = ["nice", "-n", "19", browser, *flags]
    if os.geteuid() == 0 and shutil.which("setpriv"):
        # As root Chromium would raise its own priority above all others.
        for path in (folder, page):
            path.chmod(0o777)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()


def _judge(priority: str, s: dict[str, Any]) -> bool:
    skipped, period = _LIMITS[priority]
    return (
        _skipped_percent(s) <= skipped
        and s["control"]["period_us_p99"] <= period
        and s["fast"]["chunks_hz"] >= _CHUNKS_HZ
        and s["fast"]["interval_ms_p99"] <= _INTERVAL_MS
        and s["age_error_ms_max"] <= 5.0
        and s["recording"]["lost"] == 0
    )


def _skipped_percent(s: dict[str, Any]) -> float:
    control = s["control"]
    return float(100.0 * control["skipped"] / max(1, control["ticks"] + control["skipped"]))


def _say_row(row: dict[str, Any]) -> None:
    s = row["summary"]
    c, f = s["control"], s["fast"]
    say(
        f"{row['priority']:<8} {row['slow_latency_ms']:<5.0f} {row['mode']:<6} "
        f"{s['successes']}/{s['episodes']}     {_skipped_percent(s):6.3f} %  "
        f"{c['period_us_p99']:7.0f} us  {c['compute_us_p99']:8.0f} us  {f['chunks_hz']:8.2f}  "
        f"{f['interval_ms_p99']:9.1f} ms  {s['age_error_ms_max']:6.2f} ms  "
        f"{s['recording']['lost']:5d}  {'ok' if row['ok'] else 'BROKEN'}"
    )
