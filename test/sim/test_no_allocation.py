# SPDX-License-Identifier: Apache-2.0
"""The control loop allocates nothing: twice the ticks, the same number of allocations."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sim

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static long count; static int counting;
static void *(*real_malloc)(size_t); static void *(*real_aligned)(size_t, size_t);
static int (*real_memalign)(void **, size_t, size_t); static void *(*real_realloc)(void *, size_t);
void *malloc(size_t n) {
  if (!real_malloc) real_malloc = dlsym(RTLD_NEXT, "malloc");
  if (counting) ++count;
  return real_malloc(n);
}
void *realloc(void *p, size_t n) {
  if (!real_realloc) real_realloc = dlsym(RTLD_NEXT, "realloc");
  if (counting) ++count;
  return real_realloc(p, n);
}
void *aligned_alloc(size_t a, size_t n) {
  if (!real_aligned) real_aligned = dlsym(RTLD_NEXT, "aligned_alloc");
  if (counting) ++count;
  return real_aligned(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
  if (!real_memalign) real_memalign = dlsym(RTLD_NEXT, "posix_memalign");
  if (counting) ++count;
  return real_memalign(p, a, n);
}
void count_begin(void) { count = 0; counting = 1; }
long count_end(void) { counting = 0; return count; }
"""

RUN = """
import ctypes, sys
from pathlib import Path
from host_rig import HostRig
from vla_ros.sim.prepare import prepare_scene
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.sim.tasks import apply_layout, sample_layout

counter = ctypes.CDLL(sys.argv[1])
counter.count_end.restype = ctypes.c_long
scene = prepare_scene(Path(sys.argv[2]))
rig = HostRig(scene.model)
layout = apply_layout(SceneInfo.load(scene.info), sample_layout(1))
rig.grant()
rig.run(0.1)
counts = []
for n in (200, 400, 800):
    # Segments arrive, are joined, run out and expire within the ticks that are counted.
    rig.send(velocity=(0.0, 0.2, 0.0), duration_s=0.1, expire_s=0.08)
    counter.count_begin()
    rig.now_ns = rig.host.run_ticks(rig.now_ns, n)
    counts.append(counter.count_end())
print(counts)
assert counts[0] == counts[1] == counts[2], counts
rig.plant.request_reset(list(layout))
rig.run(0.3)
rig.grant(source="topic", epoch=2)
rig.run(0.01)
joints = [f"fr3_joint{i}" for i in range(1, 8)]
counts = []
for n in (200, 400, 800):
    # Targets of every kind arrive, are followed and grow stale within the ticks that are counted.
    state = rig.host.state()
    position = [state["position"][0], state["position"][1] + 0.01, state["position"][2]]
    assert rig.host.set_target_pose(position, state["quat_xyzw"]) == ""
    assert rig.host.set_target_joint(joints, state["q"]) == ""
    assert rig.host.set_target_wrench([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], frame="fr3_hand_tcp") == ""
    counter.count_begin()
    rig.now_ns = rig.host.run_ticks(rig.now_ns, n)
    counts.append(counter.count_end())
rig.close()
print(counts)
assert counts[0] == counts[1] == counts[2], counts
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_number_of_allocations_does_not_depend_on_the_number_of_ticks(tmp_path: Path) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(library), str(tmp_path / "scene")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
