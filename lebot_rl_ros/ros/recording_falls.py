"""What a driver says of its robot on /diagnostics: that time runs, that it fell or failed."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

DRIVERS = ('sim', 'servo_driver')


class FallWatch:
    """Notices falls and faults by the driver's own word.

    The driver is asked, not the reward: it sees every fall, with or without a policy, a reward
    node or a step in progress, it is the one that cannot be missing, and its faults (heat, a
    lost bus) are worth the same look back. It tells news at once.
    """

    def __init__(self, namespace: str) -> None:
        """Listen to the drivers of this namespace."""
        below = namespace.rstrip('/')
        self._names = [f'{below}/{driver}' for driver in DRIVERS]
        self.running = False  # whether robot time has begun
        self._falls = 0
        self._fault = ''

    def hear(self, message: DiagnosticArray) -> str:
        """Take a message; what has gone wrong since the last one, '' if nothing."""
        news = ''
        for status in message.status:
            if status.name in self._names:
                values = {pair.key: pair.value for pair in status.values}
                news = self._judge(values, failed=status.level == DiagnosticStatus.ERROR) or news
        return news

    def _judge(self, values: dict[str, str], *, failed: bool) -> str:
        self.running = float(values.get('run_s', 0.0)) > 0.0
        falls, fault = int(values.get('falls', 0)), values.get('fault', '') if failed else ''
        fell, broke = falls > self._falls, bool(fault) and not self._fault
        self._falls, self._fault = falls, fault
        return (fault or 'fell') if fell or broke else ''
