"""Commands for the robot on cmd_vel: constant, joystick or keyboard, with a deadman."""

import select
import sys
import termios
import tty
from collections.abc import Callable
from dataclasses import dataclass, field

from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import Joy

from lebot_rl_ros.mdp.drive import KEYS, Driver, joy_command
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.parameters import declare
from lebot_rl_ros.ros.spin import Stop, run

SOURCES = ('constant', 'joy', 'keyboard')


@dataclass(frozen=True)
class TeleopParameters:
    """Parameters of the node."""

    source: str = field(default='constant', metadata={'description': ', '.join(SOURCES)})
    vx: float = field(default=0.0, metadata={'description': 'm/s, of the constant command'})
    wz: float = field(default=0.0, metadata={'description': 'rad/s, of the constant command'})
    rate: float = field(default=10.0, metadata={'description': 'Hz of cmd_vel'})
    max_vx: float = field(default=0.5, metadata={'description': 'm/s at full stick'})
    max_wz: float = field(default=0.6, metadata={'description': 'rad/s at full stick'})
    deadman: float = field(
        default=0.5, metadata={'description': 's after the last key or joy message: stop'}
    )
    axis_vx: int = field(default=1, metadata={'description': 'axis of Joy'})
    axis_wz: int = field(default=0, metadata={'description': 'axis of Joy'})
    button_enable: int = field(
        default=4, metadata={'description': 'button of Joy that must be held; -1 for none'}
    )

    def __post_init__(self) -> None:
        """Check the choice."""
        if self.source not in SOURCES:
            raise ValueError(f'source is {self.source!r}; choices are {", ".join(SOURCES)}')


class TeleopNode(Node):
    """Publishes the newest wish at a steady rate, and none once the deadman lets go."""

    def __init__(self) -> None:
        """Declare and start the timer."""
        super().__init__('teleop')
        self.config = config = declare(self, TeleopParameters)
        self._message = TwistStamped()
        self._message.header.frame_id = 'base_link'
        self._publisher = self.create_publisher(TwistStamped, names.CMD_VEL, qos.OFFER)
        self.driver = Driver(config.max_vx, config.max_wz, config.deadman)
        self._cadence = diagnostics.Cadence()
        if config.source == 'joy':
            self.create_subscription(Joy, names.JOY, self._on_joy, qos.NEWEST)
        self.create_timer(1.0 / config.rate, self._tick)
        if self.get_parameter('use_sim_time').value:
            # Simulated time may be waiting for this very command, so wall time drives as well.
            self.create_timer(
                1.0 / config.rate, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._tick()

    def seconds(self) -> float:
        """Time by the node's clock."""
        return self.get_clock().now().nanoseconds / 1e9

    def _on_joy(self, message: Joy) -> None:
        config = self.config
        command = joy_command(
            message.axes, message.buttons, config.axis_vx, config.axis_wz, config.button_enable
        )
        if command is None:
            self.driver.release()
        else:
            self.driver.wish(
                self.seconds(), command[0] * config.max_vx, command[1] * config.max_wz
            )

    def _tick(self) -> None:
        now = self.get_clock().now()
        if self.config.source == 'constant':
            command: tuple[float, float] | None = (self.config.vx, self.config.wz)
        else:
            command = self.driver.command(now.nanoseconds / 1e9)
        if command is None:
            return  # silence is the deadman's word: the policy stands
        self._message.header.stamp = now.to_msg()
        self._message.twist.linear.x, self._message.twist.angular.z = command
        self._cadence.tick()
        self._publisher.publish(self._message)

    def _health(self) -> diagnostics.Health:
        values = {'rate_hz': self._cadence.rate(), 'source': self.config.source}
        return diagnostics.OK, 'commanding' if values['rate_hz'] else 'silent: stand', values


def read_keys(node: TeleopNode, executor: Executor, stop: Stop) -> None:
    """Spin while reading the terminal, which is restored at the end."""
    if node.config.source != 'keyboard':
        while not stop:
            executor.spin_once(timeout_sec=0.1)
        return
    if not sys.stdin.isatty():
        raise ValueError('source keyboard needs a terminal; start `lebot drive` in one')
    saved = termios.tcgetattr(sys.stdin)
    show: Callable[[str], int] = sys.stdout.write
    show(f'{KEYS}\n')
    try:
        tty.setcbreak(sys.stdin)
        while not stop:
            executor.spin_once(timeout_sec=0.05)
            while select.select([sys.stdin], [], [], 0.0)[0]:
                key = sys.stdin.read(1)
                if key in ('q', '\x03', ''):
                    return
                node.driver.key(node.seconds(), key)
                show(
                    '\r{0[0]:+.2f} m/s {0[1]:+.2f} rad/s  '.format(
                        node.driver.command(node.seconds()) or (0.0, 0.0)
                    )
                )
                sys.stdout.flush()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
        show('\n')


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(TeleopNode, args, loop=read_keys)


if __name__ == '__main__':
    raise SystemExit(main())
