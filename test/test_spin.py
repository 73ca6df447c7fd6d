"""How nodes end: with nothing of them left on the machine."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ros_graph import environment, fresh_domain, node_process, probe, shared_memory

MEMORY = Path('/dev/shm')


pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason='no /dev/shm on this system')


@pytest.mark.parametrize('name', ['policy', 'sim', 'reward'])
def test_a_node_leaves_no_shared_memory_behind(name):
    domain = fresh_domain()
    before = shared_memory(domain)
    with node_process(domain, name), probe(domain) as listening:
        listening.meet(f'/{name}')
        assert shared_memory(domain)
    assert shared_memory(domain) <= before


def test_nor_does_one_that_was_refused():
    domain = fresh_domain()
    before = shared_memory(domain)
    words = [sys.executable, '-m', 'lebot_rl_ros.nodes.servo_driver']
    done = subprocess.run(
        words, env=environment(domain), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1][:27]) == (
        2,
        "[FATAL] port is '': name th",
    )
    assert shared_memory(domain) <= before


def test_one_that_is_killed_does():
    """Or else the tests above see nothing."""
    domain = fresh_domain()
    with node_process(domain, 'reward') as popen:
        with probe(domain) as listening:
            listening.meet('/reward')
        popen.send_signal(signal.SIGKILL)
        popen.wait()
        left = shared_memory(domain)
        assert left
        for name in left:
            port = name.removesuffix('_el')
            for file in (name, port, f'sem.{port}_mutex'):
                (MEMORY / file).unlink(missing_ok=True)
