# SPDX-License-Identifier: Apache-2.0
"""Plays random disorder for a while; `make fuzz-execution` runs it.

Goes on where it left off: the next seed and all counts are in a file. A sequence that broke a rule
is printed with its seed, which `--only` plays again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from disorder import RATE_HZ, STRATEGIES, Operation, World  # noqa: E402
from robot_rig import RobotRig  # noqa: E402

from vla_ros.embodiment.robot import load_robot  # noqa: E402

_SAY_EVERY_S = 30.0


def sequence(seed: int) -> tuple[list[Operation], bool, str]:
    """Return the operations of a seed, whether the fast half decodes latents, the strategy."""
    draw = random.Random(seed)
    n = draw.randint(4, 60)
    operations = [(draw.randrange(16), *(draw.randrange(256) for _ in range(3))) for _ in range(n)]
    return operations, draw.random() < 0.5, draw.choice(STRATEGIES)


def main() -> int:
    """Play until the time is up; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", type=int, help="play the sequence of this seed alone")
    default = ROOT / "build" / "fuzz_execution.json"
    parser.add_argument("--progress", type=Path, default=default, help="where to go on from")
    options = parser.parse_args()
    done = {"next_seed": 0, "seconds": 0.0, "counts": {}, "broken": []}
    if options.progress.is_file():
        done = json.loads(options.progress.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="vla_ros_fuzz_") as folder:
        rig = RobotRig(load_robot("fr3"), Path(folder), RATE_HZ)
        try:
            world = World(rig)
            if options.only is not None:
                return report(play_one(world, options.only), options.only)
            return play(world, done, options.seconds, options.progress)
        finally:
            rig.close()


def play(world: World, done: dict, seconds: float, progress: Path) -> int:
    """Go through the seeds from where the last run ended."""
    world.counts = Counter(done["counts"])
    begin = said = time.monotonic()
    before_s = done["seconds"]
    while (now := time.monotonic()) < begin + seconds:
        seed = done["next_seed"]
        if report(play_one(world, seed), seed):
            done["broken"].append(seed)
        done["next_seed"] = seed + 1
        if now - said > _SAY_EVERY_S:
            said = now
            say(world, done, before_s + now - begin)
            save(world, done, before_s + now - begin, progress)
    save(world, done, before_s + time.monotonic() - begin, progress)
    say(world, done, done["seconds"])
    print(json.dumps(done["counts"], indent=1))
    return 1 if done["broken"] else 0


def play_one(world: World, seed: int) -> list[str]:
    operations, is_fast, strategy = sequence(seed)
    return world.run(operations, is_fast=is_fast, strategy=strategy)


def save(world: World, done: dict, seconds: float, progress: Path) -> None:
    done |= {"seconds": seconds, "counts": dict(world.counts)}
    progress.parent.mkdir(parents=True, exist_ok=True)
    progress.write_text(json.dumps(done), encoding="utf-8")


def say(world: World, done: dict, seconds: float) -> None:
    c = world.counts
    print(
        f"{seconds:6.0f} s: {c['sequences']} sequences, {c['ticks']} ticks, "
        f"{c['ticks that executed a row']} executed a row, {len(done['broken'])} sequences broken",
        flush=True,
    )


def report(found: list[str], seed: int) -> int:
    for text in found[:5]:
        print(f"seed {seed}: {text}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
