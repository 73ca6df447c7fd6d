"""The live view of a walk in the terminal."""

import time
from collections import deque
from collections.abc import Set

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lebot_rl_ros.bringup.graph import Stack
from lebot_rl_ros.cli.learning_report import count, words
from lebot_rl_ros.ros.monitor import LEVELS, Health, Heard

COLOURS = {'ok': 'green', 'warn': 'yellow', 'error': 'bold red', 'silent': 'bold red'}
VERDICTS = {'accepted': 'green', 'rejected': 'red'}
GATHERING = 5.0  # s in which nodes that look for each other are no news
SILENT = 3.0  # s without a word, after which a node's health is not believed


class View:
    """A panel that is redrawn in a terminal, and a line every few seconds elsewhere."""

    def __init__(self, stack: Stack, heard: Heard, *, quiet: bool) -> None:
        """Prepare; ``quiet`` shows nothing but events of level error."""
        self._stack, self._heard, self._quiet = stack, heard, quiet
        self._console = Console()
        self._events: deque[str] = deque(maxlen=6)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._started = self._line_due = time.monotonic()
        self._last_words: dict[str, str] = {}
        self._told = self._swaps = ''
        self._verdicts = 0  # told so far
        self._down: Set[str] = frozenset()

    def __enter__(self) -> 'View':
        """Begin to draw."""
        if self._drawing:
            self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        """Give the terminal back."""
        if self._drawing:
            self._live.stop()

    @property
    def _drawing(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def event(self, text: str) -> None:
        """Tell something that happened once."""
        if _gist(text) == self._told:
            return  # a node's log and its health may say the same
        self._told = _gist(text)
        line = f'{time.monotonic() - self._started:6.1f} s  {text}'
        self._events.append(line)
        if not self._drawing and not self._quiet:
            self._console.print(line, highlight=False)

    def update(self, down: Set[str] = frozenset()) -> None:
        """Draw what has been heard; ``down`` are nodes that died and are not back yet."""
        self._down = down
        age = time.monotonic() - self._started
        gathering = age < GATHERING and self._values(self._stack.driver).get('ticks', '0') == '0'
        for name, health in () if gathering else self._heard.health.items():
            if health.level and self._last_words.get(name) != _gist(health.message):
                self.event(f'{name}: {health.message}')
            self._last_words[name] = _gist(health.message) if health.level else ''
        self._tell_swap()
        for verdict in self._heard.verdicts[self._verdicts :]:
            self._told = ''  # another version is news
            self.event(words(verdict))
        self._verdicts = len(self._heard.verdicts)
        if self._drawing:
            self._live.update(self._panel(), refresh=True)
        elif not self._quiet and time.monotonic() >= self._line_due and self._heard.time:
            self._line_due = time.monotonic() + 5.0
            self._console.print(self._summary(), highlight=False)

    def _summary(self) -> str:
        heard = self._heard
        recent = heard.velocity[-50:]
        speed = sum(recent) / len(recent) if recent else 0.0
        wanted = heard.commands[-1][1] if heard.commands else 0.0
        driver = self._values(self._stack.driver)
        learns = bool(self._stack.arguments['learn'])
        learned = f'  return {self._return()}  versions: {count(heard.verdicts)}' * learns
        return (
            f'{self._time():6.1f} s of the robot  {speed:+.2f} m/s of {wanted:+.2f}  '
            f'{driver.get("mode", "-")}  falls {driver.get("falls", "-")}  '
            f'ticks {driver.get("ticks", "-")}, {driver.get("missed_ticks", "-")} missed' + learned
        )

    def _return(self) -> str:
        """Sum of rewards since the last fall, and that of the episode before."""
        terms = self._heard.terms
        now, last = (float(terms.get(name, 'nan')) for name in ('return', 'last_return'))
        return f'{now:.0f} ({last:.0f} before)'

    def _time(self) -> float:
        """Seconds of the robot since the driver's first tick."""
        driver = self._values(self._stack.driver)
        if driver.get('ticks', '0') == '0' or not self._heard.time:
            return 0.0
        return max(self._heard.time[-1] - float(driver['begin_s']), 0.0)

    def _values(self, name: str) -> dict[str, str]:
        health = self._heard.health.get(name)
        return health.values if health else {}

    def _tell_swap(self) -> None:
        policy = self._values('policy')
        if policy.get('swaps', self._swaps) != self._swaps:
            self._swaps = policy['swaps']
            if self._swaps != '0':
                self._told = ''  # another version is news
                self.event(f'adapter: {policy["adapter"] or "base"}')

    def _panel(self) -> RenderableType:
        heard, arguments = self._heard, self._stack.arguments
        driver, policy = self._values(self._stack.driver), self._values('policy')
        numbers = Table.grid(padding=(0, 3))
        recent, turning = heard.velocity[-50:], heard.yaw_rate[-50:]
        speed = sum(recent) / len(recent) if recent else 0.0
        turn = sum(turning) / len(turning) if turning else 0.0
        vx, wz = heard.commands[-1][1:] if heard.commands else (0.0, 0.0)
        reward = f'{heard.rewards[-1][1]:+.2f} a step' if heard.rewards else '-'
        duration = f' of {arguments["duration"]:g}' if arguments['duration'] else ''
        p50, p99 = (float(driver.get(f'tick_{q}_ms', 'nan')) for q in ('p50', 'p99'))
        for left, right in (
            (
                ('time', f'{self._time():.1f}{duration} s'),
                ('mode', driver.get('mode', 'starting')),
            ),
            (
                ('speed', f'{speed:+.2f} m/s   asked {vx:+.2f}'),
                ('turn', f'{turn:+.2f} rad/s   asked {wz:+.2f}'),
            ),
            (('reward', reward), ('falls', driver.get('falls', '-'))),
            (
                (
                    'ticks',
                    f'{driver.get("rate_hz", "-")} Hz, {driver.get("missed_ticks", "-")} missed',
                ),
                ('latency', f'{p50:.2f} ms p50, {p99:.2f} ms p99'),
            ),
            (('policy', str(arguments['policy'])), ('adapter', policy.get('adapter') or 'base')),
            *self._learning_rows(),
        ):
            numbers.add_row(
                *(
                    Text(str(cell), style='dim' if i % 2 == 0 else '')
                    for i, cell in enumerate((*left, *right))
                )
            )
        nodes = Table.grid(padding=(0, 2))
        for spec in self._stack.nodes:
            if spec.condition:
                word, message = self._node(spec.name, heard.health.get(spec.name))
                nodes.add_row(
                    Text('●', style=COLOURS[word]), spec.name, Text(message, style=COLOURS[word])
                )
        parts: list[RenderableType] = [numbers]
        if heard.verdicts:
            last = heard.verdicts[-1]
            parts.append(Text(f'verdict   {words(last)}', style=VERDICTS.get(last['verdict'], '')))
        parts += [Text(), nodes]
        if self._events:
            parts += [Text(), Text('\n'.join(self._events), style='dim')]
        return Panel(
            Group(*parts),
            title='lebot walk',
            subtitle='Ctrl-C: crouch and end',
            width=min(self._console.width, 92),
        )

    def _learning_rows(self) -> tuple[tuple[tuple[str, str], tuple[str, str]], ...]:
        if not self._stack.arguments['learn']:
            return ()
        return ((('return', self._return()), ('versions', str(count(self._heard.verdicts)))),)

    def _node(self, name: str, health: Health | None) -> tuple[str, str]:
        if name in self._down:
            return 'error', 'died, will be started again'
        if health is None:
            return 'warn', 'starting'
        age = time.monotonic() - health.heard
        if age > SILENT:
            return 'silent', f'silent for {age:.0f} s; last word: {health.message}'
        return LEVELS[health.level], health.message


def _gist(message: str) -> str:
    """A message without its numbers, to see whether it is news."""
    return ''.join(letter for letter in message if not letter.isdigit())
