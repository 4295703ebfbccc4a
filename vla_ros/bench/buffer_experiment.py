# SPDX-License-Identifier: Apache-2.0
"""Experiment 9: how a latent gets to another process, by shared memory and by what others use.

``run`` writes ``buffer.csv``, ``buffer.md`` and ``buffer.svg``. gRPC, pickle, websocket and msgpack
are what policy servers of this field speak; they need the packages of the extra ``bench`` and are
left out, with a line that says so, where these are missing.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import vla_ros_core as core
from vla_ros.bench.handover import RING, TOPIC, ring_name, ros_environment
from vla_ros.bench.loop_probe import RATE_HZ, LoopProbe
from vla_ros.bench.peers import Handover, run_peers
from vla_ros.errors import ConfigError, VlaRosError
from vla_ros.share import find_shared

SIZES = ((4 << 10, 300), (1_000_000, 150), (5_000_000, 80), (18_000_000, 40))
LOADS = ("idle", "busy")
_GAP_S = 0.02
_LIMIT_S = 300.0
_HEADINGS = "| size | by | n | p50 | p99 | max | p50 to ring | torn | loop p50 | p99 | max |"
_BUSY = "while True: pass"
_RING_SOURCES = ("ring_file", "realtime", "shm_ring", "stamp")


@dataclass(frozen=True, kw_only=True)
class Means:
    """One way to hand something over."""

    name: str
    label: str
    module: str
    options: tuple[str, ...] = ()
    transports: str = ""
    packages: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


MEANS = (
    Means(name="ring_polling", label="ring, polling", module=RING),
    Means(name="ring_waiting", label="ring, sleeping", module=RING, options=("wait",)),
    Means(name="topic", label="topic, default", module=TOPIC, transports="DEFAULT"),
    Means(name="topic_udp", label="topic, UDP", module=TOPIC, transports="UDPv4"),
    Means(
        name="grpc_pickle",
        label="gRPC + pickle",
        module="vla_ros.bench.grpc_peer",
        packages=("grpc",),
    ),
    Means(
        name="websocket_msgpack",
        label="websocket + msgpack",
        module="vla_ros.bench.websocket_peer",
        packages=("websockets", "msgpack"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; times [us]."""

    strategy: str
    cell: str
    bytes: int
    load: str
    n: int
    p50_us: float
    p99_us: float
    max_us: float
    torn: int
    loop_p50_us: float
    loop_p99_us: float
    loop_max_us: float


@dataclass(frozen=True, kw_only=True)
class TornReads:
    """Result of one run of ``controllers/core/test/ring_check.cpp``."""

    mode: str
    payload_bytes: int
    reads: int
    torn: int
    retried_fraction: float
    entries: int
    seconds: float


def run(
    out: Path,
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    means: Sequence[Means] = MEANS,
    loads: Sequence[str] = LOADS,
    reads: int = 10**7,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Measure every cell and write the three files into the folder ``out``.

    Args:
        out: folder of the results; made if need be.
        sizes: (bytes, number of payloads) of each size.
        means: ways to hand over; those whose packages are missing are left out.
        loads: ``idle``, ``busy`` or both.
        reads: reads of 64 KiB by the program that looks for torn ones; a thousandth of 16 MiB.
            0 leaves it out.
        tell: is given a line for each step.
    """
    present = [m for m in means if not m.missing()]
    left_out = [f"{m.label}: needs {', '.join(m.missing())}" for m in means if m.missing()]
    load_before = os.getloadavg()[0]
    rows = []
    with ros_environment() as environment:
        for load in loads:
            with _load(load):
                rows.append(_alone(load))
                for size, count in sizes:
                    for one in present:
                        rows.append(_measure(one, size, count, load, dict(environment)))
                        tell(_line(rows[-1]))
    torn = check_torn_reads(reads, tell) if reads > 0 else []
    out.mkdir(parents=True, exist_ok=True)
    write_csv(rows, out / "buffer.csv")
    (out / "buffer.md").write_text(to_markdown(rows, torn, left_out, load_before), encoding="utf-8")
    plot(rows, out / "buffer.svg")
    return rows


def check_torn_reads(reads: int, tell: Callable[[str], None]) -> list[TornReads]:
    """Read rings that another process overwrites; the last one without the check afterwards.

    Raises:
        VlaRosError: if the program cannot be compiled or fails.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise ConfigError("g++ is needed to look for torn reads; reads=0 leaves this out")
    root = find_shared("controllers/core")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "ring_check"
        command = [compiler, "-std=c++17", "-O3", "-o", str(program)]
        command += [str(root / "test" / "ring_check.cpp")]
        command += [str(root / "src" / f"{name}.cpp") for name in _RING_SOURCES]
        command += ["-I", str(root / "include"), "-I", str(root / "src"), "-lrt", "-pthread"]
        subprocess.run(command, check=True)
        large = max(100, reads // 1000)
        cells = [("copy", 64 << 10, reads), ("copy", 16 << 20, large), ("view", 64 << 10, reads)]
        cells += [("view", 16 << 20, large), ("unguarded", 16 << 20, min(1000, large))]
        for mode, size, n in cells:
            done = subprocess.run(
                [str(program), str(size), str(n), "2", mode],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
            )
            if not done.stdout:
                raise VlaRosError(f"ring_check {mode} of {size} bytes ended with {done.returncode}")
            found = json.loads(done.stdout)
            results.append(TornReads(**{f.name: found[f.name] for f in fields(TornReads)}))
            tell(str(results[-1]))
    return results


@contextmanager
def _load(load: str) -> Iterator[None]:
    """Keep every processor busy, or not."""
    count = (os.cpu_count() or 1) if load == "busy" else 0
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _alone(load: str) -> Row:
    """Return how late the loop is while nothing is handed over."""
    with LoopProbe() as probe:
        core.sleep_until_ns(core.monotonic_ns() + 3_000_000_000)
    late = probe.result
    return Row(
        strategy="none",
        cell=f"0 {load}",
        bytes=0,
        load=load,
        n=late.n,
        p50_us=0.0,
        p99_us=0.0,
        max_us=0.0,
        torn=0,
        loop_p50_us=late.p50,
        loop_p99_us=late.p99,
        loop_max_us=late.max,
    )


def _measure(means: Means, size: int, count: int, load: str, environment: dict[str, str]) -> Row:
    if means.module == RING:
        channel = ring_name("experiment")
    elif means.module == TOPIC:
        channel = f"{means.name}_{size}_{load}"
        environment = environment | {"FASTDDS_BUILTIN_TRANSPORTS": means.transports}
    else:
        channel = str(_free_port())
    series = Handover(channel=channel, bytes=size, count=count, gap_s=_GAP_S)
    with LoopProbe() as probe:
        d = run_peers(
            means.module, series, options=means.options, environment=environment, limit_s=_LIMIT_S
        )
    late = probe.result
    return Row(
        strategy=means.name,
        cell=f"{size} {load}",
        bytes=size,
        load=load,
        n=d.n,
        p50_us=d.p50,
        p99_us=d.p99,
        max_us=d.max,
        torn=d.torn,
        loop_p50_us=late.p50,
        loop_p99_us=late.p99,
        loop_max_us=late.max,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write one line per strategy and cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = asdict(row)
            rounded = {k: round(v, 1) if isinstance(v, float) else v for k, v in values.items()}
            writer.writerow(rounded)


def to_markdown(
    rows: Sequence[Row],
    torn: Sequence[TornReads],
    left_out: Sequence[str],
    load_before: float = 0.0,
) -> str:
    """Return the page of results."""
    labels = {m.name: m.label for m in MEANS}
    lines = [
        "# Latent buffer: handing over",
        "",
        "How it works: [the latent buffer](../latent-buffer.md). Every number: "
        "[buffer.csv](buffer.csv).",
        "",
        "Between two processes, from just before the sender begins until the receiver holds the "
        f"payload as an array; {_GAP_S * 1000:.0f} ms after the one before has arrived. Ring: "
        "written by copying, looked at in place; everything else arrives as a copy. *idle*: "
        f"nothing is added to what else ran (load average before the start {load_before:.1f}); "
        f"*busy*: as many processes that only compute as there are processors ({os.cpu_count()}, "
        f"{platform.machine()}). *loop*: how late a loop at {RATE_HZ} Hz in a third process wakes "
        "up meanwhile. Times in microseconds.",
        "",
    ]
    for load in dict.fromkeys(row.load for row in rows):
        lines += [f"## {load}", ""]
        lines += [_HEADINGS, "|---" * _HEADINGS.count(" |") + "|"]
        ring = {r.bytes: r.p50_us for r in rows if r.load == load and r.strategy == MEANS[0].name}
        for r in (r for r in rows if r.load == load):
            loop = f"{r.loop_p50_us:.0f} | {r.loop_p99_us:.0f} | {r.loop_max_us:.0f} |"
            if r.strategy == "none":
                lines.append(f"| | nothing | | | | | | | {loop}")
                continue
            factor = f"{r.p50_us / ring[r.bytes]:.1f}" if r.bytes in ring else ""
            lines.append(
                f"| {_size(r.bytes)} | {labels[r.strategy]} | {r.n} | {r.p50_us:.1f} | "
                f"{r.p99_us:.0f} | {r.max_us:.0f} | {factor} | {r.torn} | {loop}"
            )
        lines.append("")
    lines += _torn_lines(torn)
    lines += [f"Left out: {what}." for what in left_out]
    lines += ["![results](buffer.svg)", ""]
    return "\n".join(lines)


def _torn_lines(torn: Sequence[TornReads]) -> list[str]:
    if not torn:
        return []
    lines = [
        "## Torn reads",
        "",
        "Two processes on two processors, the writer never waits, two slots, every byte compared. "
        "*unguarded*: without the check after the copy, which shows that torn reads would be seen.",
        "",
        "| read | size | reads | torn | retried | entries written | s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {t.mode} | {_size(t.payload_bytes)} | {t.reads} | {t.torn} | "
        f"{100 * t.retried_fraction:.1f} % | {t.entries} | {t.seconds:.0f} |"
        for t in torn
    ]
    return [*lines, ""]


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the median over the size, with p99 as a thin line, for each load."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "vla_ros"
    from matplotlib import pyplot as plt

    loads = list(dict.fromkeys(row.load for row in rows))
    figure, axes = plt.subplots(1, len(loads), figsize=(5 * len(loads), 4), squeeze=False)
    for ax, load in zip(axes[0], loads, strict=True):
        for number, means in enumerate(MEANS):
            mine = [r for r in rows if r.load == load and r.strategy == means.name]
            if not mine:
                continue
            sizes: Any = [r.bytes for r in mine]
            color = f"C{number}"
            ax.plot(sizes, [r.p50_us for r in mine], "o-", color=color, label=means.label)
            ax.plot(sizes, [r.p99_us for r in mine], ":", color=color, linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="bytes", ylabel="µs; dotted: p99", title=load)
        ax.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _size(n: int) -> str:
    if n % 1024 == 0:
        return f"{n >> 10} KiB" if n < 1 << 20 else f"{n >> 20} MiB"
    return f"{n / 1e6:g} MB"


def _line(row: Row) -> str:
    return (
        f"{row.cell:<14} {row.strategy:<18} p50 {row.p50_us:.1f} us, p99 {row.p99_us:.0f}, "
        f"max {row.max_us:.0f}; loop p99 {row.loop_p99_us:.0f} us"
    )


def main() -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--reads", type=int, default=10**7, help="reads of 64 KiB; 0: none")
    options = parser.parse_args()

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")

    run(options.out, reads=options.reads, tell=tell)


if __name__ == "__main__":
    main()
