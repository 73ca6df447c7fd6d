"""The two rows of a control step as numpy dtypes. One screen, no logic.

`policy/steps` and `reward/rewards` carry them.
"""

from collections.abc import Sequence

import numpy as np

STAMP = [('sec', np.int32), ('nanosec', np.uint32)]


def step_dtype(observation: int, joints: int) -> np.dtype:
    """A step that the policy took at the message's stamp, complete once it has been applied."""
    return np.dtype(
        [
            ('sec', np.int32),  # stamp of the state that the step began with: the key of the step
            ('nanosec', np.uint32),
            ('next_sec', np.int32),  # stamp of the state that it led to
            ('next_nanosec', np.uint32),
            ('observation', np.float32, (observation,)),
            ('command', np.float32, (2,)),  # m/s, rad/s
            ('action', np.float32, (joints,)),  # as sampled: what log_prob belongs to
            ('applied_action', np.float32, (joints,)),  # after limits, as the servos got it
            ('mean', np.float32, (joints,)),
            ('std', np.float32, (joints,)),
            ('log_prob', np.float32),
            ('value', np.float32),
            ('mode', np.uint8),  # safety.Mode of the driver when it applied the action
            # The policy that acted: the base with this adapter. Version 0 is the base alone or a
            # mixture of several; the hash tells every one apart, and is zero for the base alone.
            ('adapter_version', np.uint32),
            ('adapter_sha256', np.uint8, (32,)),
            ('blend', np.float32),  # share of it in mean; below 1 while another one fades out
            ('base_sha256', np.uint8, (32,)),
        ]
    )


def reward_dtype(terms: Sequence[str]) -> np.dtype:
    """What the step with the same stamp earned."""
    return np.dtype(
        [
            ('sec', np.int32),
            ('nanosec', np.uint32),
            ('reward', np.float32),
            ('terminated', np.uint8),  # a fall; never together with truncated
            ('truncated', np.uint8),  # gap, stop, or the driver's safety had taken over
            *((name, np.float32) for name in terms),
        ]
    )


def transition_dtype(observation: int, joints: int, terms: Sequence[str]) -> np.dtype:
    """A step, what it earned and where it led to: what `data.joining.Joiner` gives."""
    return np.dtype(
        [
            ('stamp', np.int64),  # ns, of the state that the step began with
            ('next_stamp', np.int64),  # ns, of the state that it led to
            ('observation', np.float32, (observation,)),
            ('next_observation', np.float32, (observation,)),  # zeros where it is not known
            ('command', np.float32, (2,)),  # m/s, rad/s
            ('action', np.float32, (joints,)),  # as sampled
            ('applied_action', np.float32, (joints,)),
            ('mean', np.float32, (joints,)),
            ('std', np.float32, (joints,)),
            ('log_prob', np.float32),
            ('value', np.float32),
            ('mode', np.uint8),  # safety.Mode
            ('adapter_version', np.uint32),
            ('adapter_sha256', np.uint8, (32,)),
            ('blend', np.float32),
            ('base_sha256', np.uint8, (32,)),
            ('reward', np.float32),
            ('terminated', np.uint8),
            ('truncated', np.uint8),  # as published, or the next step is not known
            ('known', np.uint8),  # next_observation is
            # The row before it is the step just before it in time, and learnable: so what is left
            # when learnable rows are picked is never taken to follow what it does not.
            ('follows', np.uint8),
            *((name, np.float32) for name in terms),
        ]
    )
