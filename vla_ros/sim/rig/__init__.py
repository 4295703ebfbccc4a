# SPDX-License-Identifier: Apache-2.0
"""The virtual-time rig: strategies, C++ control host and law, a simulated arm, traced delays.

No process, no clock, no ROS; simulated ticks are the time. See docs/experiments.md.
"""
