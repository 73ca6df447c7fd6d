"""The command `lebot`. Each verb is a module, imported when it is called."""

import argparse
import importlib
import sys

from lebot_rl_ros import __version__

VERBS = {  # module, what it does, the extra that it needs
    'walk': ('walk', 'start the walking graph, watch it, report', 'sim'),
    'adapter': ('adapter', 'swap the adapter of a walking robot', 'ros'),
    'drive': ('drive', 'steer a walking robot with the keyboard', 'ros'),
    'train': ('train', 'train the walking policy, an adapter, or any method', 'learn'),
    'play': ('play', 'watch what a method has learned', 'learn'),
    'compare': ('compare_rewards', 'train by two rewards and show both', 'learn'),
    'benchmark': ('benchmark', 'our methods beside others, with tables and plots', 'learn'),
    'collect': ('collect', 'record simulated steps, to fine-tune from', 'learn'),
    'prefer': ('prefer', 'say which of two recorded pieces of walking is better', 'record'),
    'bag': ('bag', 'look at, check, plot, play, cut and export recorded runs', 'record'),
    'dataset': ('dataset', 'make data sets of bags, show them, check them', 'record'),
    'excite': ('excite', 'move held servos so that they can be identified', 'ros'),
    'identify': ('identify', 'fit the servos of the simulator to a recorded robot', 'sim'),
    'finetune': ('finetune', 'train an adapter from recorded steps', 'learn'),
    'evaluate': ('evaluate', 'measure how well a policy follows its commands', 'sim'),
    'export': ('export', 'write a policy, adapters merged, as ONNX', 'export'),
    'adapters': ('adapters', 'list, compare, mix, move and prune adapters', 'sim'),
    'bus': ('bus', 'scan, read, calibrate and watch the servos of a bus', ''),
    'emulate': ('emulate', "the robot's devices on emulated ports", 'sim'),
    'campaign': ('campaign', 'inject every fault of the wires into a walk, and judge', 'sim'),
    'doctor': ('doctor', 'what is installed, what is missing, how to get it', ''),
}
EXTRA_OF = {
    'mujoco': 'sim',
    'gymnasium': 'sim',
    'rich': 'sim',
    'matplotlib': 'sim',
    'torch': 'learn',
    'tensorboard': 'learn',
    'rclpy': 'ros',
    'onnx': 'export',
    'pyarrow': 'export',
    'mcap': 'record',
    'zstandard': 'record',
    'rosbags': 'record',
    'cv2': 'camera',
    'stable_baselines3': 'baselines',
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    lines = '\n'.join(f'  {verb:<10} {about}' for verb, (_, about, _) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog='lebot',
        usage='lebot VERB ...',
        description='A walking robot with LoRA adapters on ROS 2.',
        epilog=f'verbs:\n{lines}\n\n`lebot VERB --help` says more.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'lebot_rl_ros {__version__}')
    verb = next((word for word in words if not word.startswith('-')), None)
    subparsers = parser.add_subparsers(
        dest='verb', prog='lebot', metavar='VERB', required=True, help=argparse.SUPPRESS
    )
    if verb not in VERBS or words[0] != verb:
        if verb is not None and words[0] == verb:
            parser.error(f'unknown verb {verb!r}; verbs are {", ".join(VERBS)}')
        parser.parse_args(words)
        return 2
    module_name, _, extra = VERBS[verb]
    try:
        module = importlib.import_module(f'lebot_rl_ros.cli.{module_name}')
        module.add_parser(subparsers)
        return int(module.run(parser.parse_args(words)))
    except ImportError as error:
        missing = (error.name or '').partition('.')[0]
        if missing.startswith('lebot_rl_ros') or not missing:
            raise
        extra = EXTRA_OF.get(missing, extra or 'all')
        print(
            f"lebot {verb} needs {missing}: pip install 'lebot_rl_ros[{extra}]', or `make setup`",
            file=sys.stderr,
        )
        return 3
    except (ValueError, FileNotFoundError) as error:
        print(f'lebot {verb}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    raise SystemExit(main())
