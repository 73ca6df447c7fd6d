"""A camera's calibration, from the YAML that ROS's calibration tools write and read."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Distortion models and how many coefficients each has (sensor_msgs/CameraInfo).
MODELS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}


@dataclass(frozen=True)
class Calibration:
    """Fields as in sensor_msgs/CameraInfo; matrices row by row."""

    name: str
    width: int  # px
    height: int  # px
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]  # (9,) of the raw picture; px
    r: tuple[float, ...]  # (9,) rotation onto the rectified camera
    p: tuple[float, ...]  # (12,) of the rectified picture; px


def load_calibration(path: str | Path) -> Calibration:
    """Read and check a file of ``camera_calibration``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file; the message names file, key and what was expected.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} has no keys; expected image_width, camera_matrix and others')
    file = _File(str(path), content)
    model = file.value('distortion_model', str, 'a text')
    if model not in MODELS:
        raise ValueError(f'{path}: distortion_model is {model!r}; choices are {", ".join(MODELS)}')
    k = file.matrix('camera_matrix', 3, 3)
    p = file.matrix('projection_matrix', 3, 4)
    for key, focal in (('camera_matrix', (k[0], k[4])), ('projection_matrix', (p[0], p[5]))):
        if min(focal) <= 0:
            raise ValueError(f'{path}: {key} has focal lengths {focal}, must be more than 0 px')
    return Calibration(
        name=str(content.get('camera_name', '')),
        width=file.count('image_width'),
        height=file.count('image_height'),
        distortion_model=model,
        d=file.matrix('distortion_coefficients', 1, MODELS[model]),
        k=k,
        r=file.matrix('rectification_matrix', 3, 3),
        p=p,
    )


@dataclass(frozen=True)
class _File:
    """Says which file and key an error is in."""

    path: str
    content: dict[str, Any]

    def value(self, key: str, kind: type, expected: str) -> Any:
        """A value of this type."""
        if key not in self.content:
            raise ValueError(f'{self.path}: {key} is missing; expected {expected}')
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f'{self.path}: {key} is {value!r}; expected {expected}')
        return value

    def count(self, key: str) -> int:
        """A number of pixels."""
        value = self.value(key, int, 'a whole number of px')
        if value <= 0:
            raise ValueError(f'{self.path}: {key} is {value}; expected more than 0 px')
        return int(value)

    def matrix(self, key: str, rows: int, cols: int) -> tuple[float, ...]:
        """A matrix of this shape, row by row."""
        expected = f'rows: {rows}, cols: {cols}, data: {rows * cols} finite numbers'
        entry = self.value(key, dict, expected)
        data = entry.get('data')
        if (
            (entry.get('rows'), entry.get('cols')) != (rows, cols)
            or not isinstance(data, list)
            or len(data) != rows * cols
            or not all(_finite(number) for number in data)
        ):
            raise ValueError(f'{self.path}: {key} is {entry}; expected {expected}')
        return tuple(float(number) for number in data)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
