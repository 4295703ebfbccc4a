# SPDX-License-Identifier: Apache-2.0
"""Contact tasks in simulation: wiping a surface, and a peg in a hole. See docs/contact-tasks.md."""
