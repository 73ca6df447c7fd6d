"""Where the package's data files lie, in a source tree, an environment or a colcon install."""

from pathlib import Path

PACKAGE = 'lebot_rl_ros'


def share_path(*parts: str) -> Path:
    """Return the path of a data file (``config``, ``urdf``, ``policies``, ``launch``).

    A source checkout wins over an install, so that what one edits is what runs.

    Raises:
        FileNotFoundError: no share folder, or no such file in it; the message names both.
    """
    for parent in Path(__file__).resolve().parents:
        for root in (parent, parent / 'share' / PACKAGE):
            if (root / 'package.xml').is_file() and (root / 'config').is_dir():
                path = root.joinpath(*parts)
                if not path.exists():
                    raise FileNotFoundError(f'{"/".join(parts)} is not in {root}')
                return path
    raise FileNotFoundError(f'no share folder of {PACKAGE} above {__file__}; is it installed?')
