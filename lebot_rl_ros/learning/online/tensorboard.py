"""The numbers of a learning run as TensorBoard files, where TensorBoard is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Curves in a folder. What goes wrong is said once, and learning goes on without them."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made with the first numbers."""
        self.folder, self.trouble = folder, ''
        self._writer: Any = None
        self._closed = False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve, ``learner/NAME``, at this step of the robot."""
        if self._closed:
            return
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter  # late: slow, and an extra

                self._writer = SummaryWriter(str(self.folder))
            for name, value in values.items():
                self._writer.add_scalar(f'learner/{name}', value, step)
        except ImportError:
            self._give_up('tensorboard is not installed (extra learn): no curves are written')
        except (OSError, ValueError, RuntimeError) as error:
            self._give_up(f'{self.folder}: no more curves are written: {error}')

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None and not self._closed:
            try:
                self._writer.close()
            except (OSError, ValueError, RuntimeError) as error:
                self.trouble = f'{self.folder}: {error}'
        self._closed = True

    def _give_up(self, reason: str) -> None:
        self.trouble, self._closed = reason, True
