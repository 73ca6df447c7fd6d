"""Shared fixtures: both robots, so that what is tested for one is tested for any."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lebot_rl_ros.robot import Robot, load_robot

# A job in the background may have been started with SIGINT ignored, and processes hand that down.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no clock that judges them.
settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.load_profile('repeatable')

TWELVE = Path(__file__).parent / 'robots' / 'twelve.yaml'


@pytest.fixture(autouse=True)
def _domains() -> Iterator[None]:
    """Let others have the ROS domains that a test has claimed, when it is over."""
    graph = sys.modules.get('ros_graph')  # without ROS nobody claims one
    before = graph.claimed() if graph else 0
    yield
    graph = sys.modules.get('ros_graph')
    if graph:
        graph.give_back(before)


@pytest.fixture(scope='session')
def lebot() -> Robot:
    """The robot of the package: eight joints."""
    return load_robot()


@pytest.fixture(scope='session')
def twelve() -> Robot:
    """Another robot: twelve joints, other names, other rate."""
    return load_robot(TWELVE)


@pytest.fixture(scope='session', params=['lebot', TWELVE], ids=['lebot', 'twelve'])
def robot(request: pytest.FixtureRequest) -> Robot:
    """Each robot in turn."""
    return load_robot(request.param)
