"""What servos and their bus say of themselves: judged every tick, told to people."""

import time
from dataclasses import fields

import numpy as np

from lebot_rl_ros.hardware.servos import JointReadings, Servos
from lebot_rl_ros.safety.health import Action, Health
from lebot_rl_ros.safety.supervisor import Supervisor


class ServoWatch:
    """Hands what :class:`Health` finds to the supervisor, who latches it."""

    def __init__(
        self, servos: Servos, health: Health, supervisor: Supervisor, torque_poll: float
    ) -> None:
        """Start without a memory; torque registers are looked at every ``torque_poll`` s."""
        self._servos, self._health, self._supervisor = servos, health, supervisor
        self._torque_poll, self._polled = torque_poll, 0.0
        self._readings: JointReadings | None = None
        self.warnings: tuple[str, ...] = ()

    def judge(self, readings: JointReadings | None) -> None:
        """Take action on one read; None if there was no bus to read."""
        torque, now = None, time.monotonic()
        if readings is not None:
            self._readings = readings
            if now - self._polled > self._torque_poll:
                self._polled, torque = now, self._servos.ask_torque()
        verdict = self._health.judge(
            readings.raw if readings else None,
            torque=torque,
            torque_expected=self._servos.torque,
            bus_lost=self._servos.lost,
        )
        self.warnings = verdict.warnings
        if verdict.action == Action.RELAX:
            self._supervisor.fail(verdict.reason)
        elif verdict.action == Action.CROUCH:
            self._supervisor.stop(verdict.reason)

    def clear(self) -> None:
        """Somebody clears the faults: those that the servos have latched themselves, too."""
        if self._readings is not None:
            self._servos.clear_alarms(self._readings.raw.alarm)
        self.forget()

    def forget(self) -> None:
        """Start anew, as after the bus came back."""
        self._health.reset()

    def values(self) -> dict[str, object]:
        """For diagnostics, servo by servo in the order of the joints."""
        values: dict[str, object] = {'opened': self._servos.opened, 'torque': self._servos.torque}
        if self._servos.bus is not None:
            errors = self._servos.bus.errors
            values |= {
                'missing_replies': dict(errors.missing),
                'damaged_replies': dict(errors.damaged),
                'foreign_replies': errors.foreign,
                'echoed_requests': errors.echoed,
            }
        if self._readings is not None:
            raw = self._readings.raw
            values |= {
                entry.name: np.round(getattr(raw, entry.name), 3).tolist() for entry in fields(raw)
            }
        return values
