"""One simulated robot in small steps, as the body behind emulated devices."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.fault_text import Fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING
from lebot_rl_ros.sim.simulation import TIMESTEP, Simulation, Truth


class SimulatedBody:
    """A robot whose servos are told one by one; see ``hardware.emulation.body.Body``."""

    period = TIMESTEP

    def __init__(
        self, robot: Robot, *, seed: int = 0, randomise: bool = False, held: bool = False
    ) -> None:
        """Lie down in the crouched pose, or hang in it where the body is ``held``."""
        self.robot = robot
        self.simulation = Simulation(
            robot,
            seed=seed,
            period=TIMESTEP,
            randomisation=TRAINING if randomise else NOMINAL,
            held=held,
        )
        self.reset()

    def reset(self) -> None:
        """Put the robot back at the origin, crouched; what was injected is undone."""
        self.simulation.reset(pose=self.robot.crouch)
        self._share: FloatArray = np.ones(len(self.robot.joints))
        self._sense()

    @property
    def state(self) -> RobotState:
        """What its sensors say, (J,), joint side; the stamp counts ns since the start."""
        return self._state

    @property
    def truth(self) -> Truth:
        """Where it really is, unbatched."""
        truth = self.simulation.truth()
        return replace(truth, **{name: getattr(truth, name)[0] for name in truth.__match_args__})

    def step(self, goal: FloatArray, torque: npt.NDArray[np.bool_], strength: FloatArray) -> None:
        """Advance by :attr:`period`: goals (J,) rad, who has torque, and its share."""
        share = torque * strength
        if not np.array_equal(share, self._share):  # rare, and not free
            self._share = share
            self.simulation.limit_torque(0, share)
        self.simulation.step(goal[None])
        self._sense()

    def inject(self, fault: Fault) -> None:
        """Let the body itself fail, until the next reset."""
        inject(fault, self.simulation)

    def _sense(self) -> None:
        states = self.simulation.sense()
        self._state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
