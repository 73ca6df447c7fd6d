"""Parameters of the policy node."""

from dataclasses import dataclass

from lebot_rl_ros.control.exploration import ExplorationConfig
from lebot_rl_ros.ros.parameters import parameter


@dataclass(frozen=True)
class PolicyParameters:
    """Parameters of the node."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    policy: str = parameter('walk', 'name in policies, path of a folder, or trot')
    adapter: str = parameter(
        '',
        "NAME[@VERSION][:WEIGHT] joined by '+', or a folder's path with /; '' is the base alone",
        writable=True,
    )
    adapter_blend: int = parameter(
        0, 'ticks in which actions go over to the next adapter', writable=True, range=(0, 500)
    )
    trial_patience: float = parameter(
        10.0, 's of steps that a version on trial acts without a word of the learner; 0: for ever'
    )
    adapter_store: str = parameter('', "folder of adapters; '' is this user's")
    deterministic: bool = parameter(
        True, 'false samples actions from the policy, where exploration is 0'
    )
    exploration: float = parameter(
        0.0, 'std of correlated noise on actions, policy units; 0 is none', writable=True
    )
    exploration_time: float = parameter(ExplorationConfig.time, 's of its correlation; 0: white')
    exploration_box: float = parameter(
        ExplorationConfig.box, 'largest deviation from the mean action, policy units, in the end'
    )
    exploration_growth: float = parameter(
        ExplorationConfig.growth, 's of exploring in which the box grows to that'
    )
    exploration_after_fall: float = parameter(
        ExplorationConfig.after_fall, 'share of it that a fall leaves; 1: falls change nothing'
    )
    exploration_recovery: float = parameter(
        ExplorationConfig.recovery, 's of exploring in which it grows e-fold again'
    )
    seed: int = parameter(0, 'of the sampled actions')
    lockstep: bool = parameter(False, 'act only on inputs of the very same tick')
    lockstep_cmd_vel: bool = parameter(False, 'in lockstep, wait for cmd_vel as a driver does')
    autostart: bool = parameter(True, 'configure and activate without a manager')
    command_timeout: float = parameter(0.5, 's; older cmd_vel means stand')
    wait_for_listeners: int = parameter(0, 'act only once so many listen to policy/steps')
    stamped_cmd_vel: bool = parameter(True, 'false: cmd_vel is a plain Twist')
    realtime_priority: int = parameter(20, 'of SCHED_FIFO, 1 to 99; 0 does not ask for it')

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        if not 0.0 <= self.trial_patience < float('inf'):
            raise ValueError(f'trial_patience is {self.trial_patience}, must be 0 or more seconds')
