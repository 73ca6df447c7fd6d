"""`lebot bag plot`: a bag as pictures, and as one page that needs nothing beside it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.cli.bag_plot_pictures import draw
from lebot_rl_ros.cli.bag_plot_run import load
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.types import BagError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DPI = 150  # 975 pixels wide: sharp on a telephone


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'plot',
        help='pictures, and one page to look at or to send',
        description='Draw a bag: speed and command, path, joints, IMU, reward and its terms, '
        "the driver's modes and falls, servo heat and voltage, rates of topics; what the bag "
        'does not have is left out.',
    )
    parser.add_argument('path', type=Path, help='folder of a bag, or one .mcap')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='for the files (default: plots/ in the bag)'
    )
    parser.add_argument(
        '--html', action='store_true', help='one self-contained page, with info and check'
    )
    parser.add_argument('--namespace', default='', help='of the robot, where there are several')


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit status.

    Raises:
        BagError: it is no bag, or there is nothing in it to draw.
    """
    bag = Bag(args.path)
    pictures = draw(load(bag, args.namespace))
    if not pictures:
        raise BagError(f'{bag.path} has no messages: there is nothing to draw')
    folder = bag.path if bag.path.is_dir() else bag.path.parent
    out = args.out or folder / 'plots'
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, _, _, figure in pictures:
        files.append(out / f'{name}.png')
        figure.savefig(files[-1], dpi=DPI, metadata={'Software': None})
    print(f'{len(files)} pictures in {out}: {", ".join(file.stem for file in files)}')
    if args.html:
        from lebot_rl_ros.cli.bag_plot_page import page

        shown = [
            (title, words, file.read_bytes())
            for (_, title, words, _), file in zip(pictures, files, strict=True)
        ]
        target = out / 'index.html'
        target.write_text(page(bag, shown), encoding='utf-8')
        print(f'{target}, {target.stat().st_size / 1e6:.1f} MB: one file, to open or to send')
    return 0
