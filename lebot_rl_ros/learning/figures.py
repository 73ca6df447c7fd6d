"""Pictures in files, drawn without a display. Matplotlib is imported when one is made."""

from pathlib import Path
from typing import Any


def new_figure(inches: tuple[float, float]) -> Any:
    """A figure whose parts keep out of each other's way."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path, dpi: int = 100) -> None:
    """Write it, and the folders above; equal pictures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={'Software': None})
