"""Plain tables for the verbs of `lebot bus`; they have to work on a robot without extras."""

import sys
from collections.abc import Sequence

from lebot_rl_ros.robot import Robot


def servo_names(robot: Robot) -> dict[int, str]:
    """Joint names by servo id."""
    return {joint.id: joint.name for joint in robot.joints}


def columns(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table as text: numbers to the right, words to the left."""
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(head))
    ]
    return '\n'.join(
        '  '.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def number(value: float) -> str:
    """Whole numbers as such, others with four digits; ``-0`` is 0."""
    return f'{value + 0.0:.0f}' if value == round(value) else f'{value:.4g}'


def progress(text: str) -> None:
    """Show how far it is, on a terminal only; empty text wipes it away."""
    if sys.stderr.isatty():
        print(f'\r\x1b[K{text}', end='', file=sys.stderr, flush=True)


def confirmed(question: str) -> bool:
    """Ask; anything but a yes, also the end of the input, is a no."""
    try:
        return input(f'{question} [y/N] ').strip().lower() in ('y', 'yes')
    except EOFError:
        print()
        return False


def _text(cell: object) -> str:
    if cell is None:
        return '-'  # no answer
    return number(cell) if isinstance(cell, float) else str(cell)
