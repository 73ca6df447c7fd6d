"""Where feet are and how they move, for any robot whose legs turn about coordinate axes."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True)
class FootMotion:
    """Feet relative to the base, in base_link; F feet."""

    position: FloatArray  # (..., 3, F) m, centre of the foot
    velocity: FloatArray  # (..., 3, F) m/s, of the centre, body held still
    rotation_rate: FloatArray  # (..., 3, F) rad/s, of the last link, body held still


@dataclass(frozen=True)
class _Level:
    """One joint of every leg, counted from the foot."""

    axis: int  # 0, 1, 2
    sign: FloatArray  # (F,)
    joint: tuple[int, ...]  # (F,) indices into the joint table
    origin: FloatArray  # (3, F) m, of the joint in its parent


class LegKinematics:
    """Forward kinematics of all feet at once, from a URDF.

    Legs must have the same number of joints, each about a coordinate axis of its own frame, and
    joint frames must be parallel to base_link at zero (``rpy="0 0 0"``): true of most legged
    robots, and it keeps the sums short.
    """

    def __init__(
        self, urdf: Path, base_link: str, feet: tuple[str, ...], joint_names: tuple[str, ...]
    ) -> None:
        """Read the chains.

        Raises:
            ValueError: a foot or joint is missing from the URDF, or a chain is not of the form
            above.
        """
        root = ET.parse(urdf).getroot()
        by_child = {
            child.get('link'): joint
            for joint in root.iter('joint')
            if (child := joint.find('child')) is not None
        }
        known = {joint.get('name') for joint in by_child.values()}
        missing = [name for name in joint_names if name not in known]
        if missing:
            raise ValueError(
                f'{urdf}: joint table names {", ".join(missing)}, which the URDF does not have'
            )
        self.foot_radius = float(np.mean([_foot_radius(root, foot, urdf) for foot in feet]))
        chains = [_chain(by_child, foot, base_link, urdf) for foot in feet]
        if len({len(moving) for _, moving in chains}) != 1:
            raise ValueError(
                f'{urdf}: legs differ in their number of joints: {[len(c[1]) for c in chains]}'
            )
        self._tip = np.stack([tip for tip, _ in chains], axis=-1)
        self._levels = []
        for level in zip(*(moving for _, moving in chains), strict=True):
            axes = {axis for _, axis, _, _ in level}
            if len(axes) != 1:
                raise ValueError(
                    f'{urdf}: joints {[name for name, *_ in level]} turn about different axes'
                )
            absent = [name for name, *_ in level if name not in joint_names]
            if absent:
                raise ValueError(f'{urdf}: leg joints {absent} are not in the joint table')
            self._levels.append(
                _Level(
                    axis=axes.pop(),
                    sign=np.array([sign for _, _, sign, _ in level]),
                    joint=tuple(joint_names.index(name) for name, *_ in level),
                    origin=np.stack([origin for *_, origin in level], axis=-1),
                )
            )

    def __call__(self, position: FloatArray, velocity: FloatArray) -> FootMotion:
        """Feet for joint angles and speeds: (..., J) rad, (..., J) rad/s."""
        shape = (*position.shape[:-1], self._tip.shape[-1])
        # Components apart, (..., F) each: numpy is several times faster on whole arrays than on
        # slices, and what is zero stays a plain number.
        p: list[FloatArray] = list(self._tip)
        v: list[FloatArray | float] = [0.0, 0.0, 0.0]
        w: list[FloatArray | float] = [0.0, 0.0, 0.0]
        for level in self._levels:
            angle = level.sign * position[..., level.joint]
            rate = level.sign * velocity[..., level.joint]
            k, i, j = level.axis, (level.axis + 1) % 3, (level.axis + 2) % 3
            cos, sin = np.cos(angle), np.sin(angle)
            for a in (p, v, w):
                a[i], a[j] = cos * a[i] - sin * a[j], sin * a[i] + cos * a[j]
            v[i] = v[i] - rate * p[j]
            v[j] = v[j] + rate * p[i]
            w[k] = w[k] + rate
            p = [part + origin for part, origin in zip(p, level.origin, strict=True)]
        return FootMotion(*(_stack(a, shape) for a in (p, v, w)))


def _stack(parts: Sequence[FloatArray | float], shape: tuple[int, ...]) -> FloatArray:
    stacked = np.empty((*shape[:-1], 3, shape[-1]))
    for i, part in enumerate(parts):
        stacked[..., i, :] = part
    return stacked


def _vector(element: ET.Element | None, key: str) -> FloatArray:
    text = '0 0 0' if element is None else element.get(key, '0 0 0')
    return np.array([float(x) for x in text.split()])


def _foot_radius(root: ET.Element, foot: str, urdf: Path) -> float:
    sphere = root.find(f"link[@name='{foot}']/collision/geometry/sphere")
    if sphere is None:
        raise ValueError(f'{urdf}: foot {foot} has no collision sphere')
    return float(sphere.get('radius', 'nan'))


def _chain(
    by_child: dict[str | None, ET.Element], foot: str, base_link: str, urdf: Path
) -> tuple[FloatArray, list[tuple[str, int, int, FloatArray]]]:
    """Tip offset and the moving joints (name, axis, sign, origin) from the foot up to the base."""
    link = foot
    offset: FloatArray = np.zeros(3)
    tip: FloatArray | None = None
    moving: list[tuple[str, int, int, FloatArray]] = []
    while link != base_link:
        joint = by_child.get(link)
        if joint is None:
            raise ValueError(
                f'{urdf}: no chain of joints from {base_link} to {foot}; it ends at {link}'
            )
        name, origin = str(joint.get('name')), joint.find('origin')
        if np.any(_vector(origin, 'rpy') != 0):
            raise ValueError(f'{urdf}: joint {name} has rpy {origin.get("rpy")}; legs need 0 0 0')  # type: ignore[union-attr]
        if joint.get('type') in ('revolute', 'continuous'):
            axis = _vector(joint.find('axis'), 'xyz')
            index = int(np.argmax(np.abs(axis)))
            if not np.array_equal(np.abs(axis), np.eye(3)[index]):
                raise ValueError(
                    f'{urdf}: joint {name} turns about {axis}; legs need a coordinate axis'
                )
            if tip is None:
                tip = offset
            elif moving:
                moving[-1] = (*moving[-1][:3], offset)
            moving.append((name, index, int(np.sign(axis[index])), np.zeros(3)))
            offset = _vector(origin, 'xyz')
        elif joint.get('type') == 'fixed':
            offset = offset + _vector(origin, 'xyz')
        else:
            raise ValueError(
                f'{urdf}: joint {name} is {joint.get("type")}; legs need revolute joints'
            )
        link = str(joint.find('parent').get('link'))  # type: ignore[union-attr]
    if tip is None:
        raise ValueError(f'{urdf}: no moving joint between {base_link} and {foot}')
    moving[-1] = (*moving[-1][:3], offset)
    return tip, moving
