# SPDX-License-Identifier: Apache-2.0
"""The control loop allocates nothing: twice the ticks, the same number of allocations."""

import shutil
from pathlib import Path

import pytest
from allocation_counter import run_counted

pytestmark = pytest.mark.sim

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
    done = run_counted(RUN, tmp_path, str(tmp_path / "scene"))
    assert done.returncode == 0, done.stdout + done.stderr
