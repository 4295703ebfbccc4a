# SPDX-License-Identifier: Apache-2.0
"""One controller manager for all tests of the plugins: starting it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from mock_robot import MockRobot

    mock = MockRobot(tmp_path_factory.mktemp("ros2_control") / "manager.log")
    yield mock
    mock.close()
