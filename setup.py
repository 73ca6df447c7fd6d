"""What is installed where, for pip and for colcon (ament_python)."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

PACKAGE = 'lebot_rl_ros'
SHARE = Path('share') / PACKAGE

# One thin file per node; each is an executable of its own name for `ros2 run` and for launch.
NODES = (
    'sim', 'emulator', 'servo_driver', 'imu_driver', 'camera_driver',
    'policy', 'odometry', 'reward', 'learner', 'teleop', 'recorder',
)  # fmt: skip

# ROS 2 as wheels, for x86-64 machines without a ROS distribution. Where there is one (a robot,
# colcon), leave this extra out: the distribution's own rclpy serves.
ROS = [
    f'{name}; platform_machine == "x86_64" and sys_platform == "linux"'
    for name in (
        'ros-jazzy-rclpy',
        'ros-jazzy-rmw-fastrtps-cpp',
        'ros-jazzy-std-msgs',
        'ros-jazzy-std-srvs',
        'ros-jazzy-sensor-msgs',
        'ros-jazzy-geometry-msgs',
        'ros-jazzy-nav-msgs',
        'ros-jazzy-diagnostic-msgs',
        'ros-wheels-bootstrapper',
    )
]
# Of Gymnasium's LunarLander, for which other machines have no wheel: physics, and the drawing.
LANDER = [f'{name}; platform_machine == "x86_64"' for name in ('box2d', 'pygame-ce')]
EXTRAS = {
    'ros': ROS,
    'sim': ['mujoco>=3.3', 'gymnasium>=1.0', 'matplotlib', 'rich', *LANDER],
    'learn': ['torch>=2.2', 'tensorboard'],
    'camera': ['opencv-python-headless'],
    'record': ['mcap>=1.5', 'zstandard', 'rosbags'],
    'export': ['onnx', 'pyarrow'],
    'baselines': ['stable-baselines3', 'onnxruntime'],
    'test': [
        'pytest>=8',
        'pytest-timeout',
        'pytest-xdist',
        'hypothesis',
        'xacro',
        'peft',
        'dynamixel-sdk',
        'ftservo-python-sdk',
    ],
}
EXTRAS['dev'] = [*EXTRAS['test'], 'ruff', 'mypy', 'types-PyYAML', 'setuptools>=64', 'wheel']
EXTRAS['all'] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})


def data_files() -> list[tuple[str, list[str]]]:
    """Return the share folder: every file under the data folders, at the same place below it."""
    found: dict[Path, list[str]] = {
        Path('share/ament_index/resource_index/packages'): [f'resource/{PACKAGE}'],
        SHARE: ['package.xml'],
    }
    folders = ('config', 'worlds', 'policies', 'adapters')
    for pattern in ('launch/*.launch.py', 'urdf/*', *(f'{folder}/**/*' for folder in folders)):
        for path in sorted(Path().glob(pattern)):
            if path.is_file():
                found.setdefault(SHARE / path.parent, []).append(str(path))
    return [(str(folder), files) for folder, files in found.items()]


# No Python module but a library for ctypes; without a C compiler the policy runs in numpy.
KERNEL = Extension(
    f'{PACKAGE}.policy._kernel',
    [f'{PACKAGE}/policy/kernel.c'],
    extra_compile_args=['-O3', '-ffp-contract=fast'],  # never -march=native: wheels travel
    optional=True,
)

setup(
    name=PACKAGE,
    version='0.1.0',
    description='Robot-side ROS 2 node suite for a small legged robot that learns with LoRA',
    author='LeBot maintainers',
    author_email='maintainers@lebot.example.org',
    license='Apache-2.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    data_files=data_files(),
    ext_modules=[KERNEL],
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=['numpy', 'pyserial', 'safetensors', 'PyYAML'],
    extras_require=EXTRAS,
    entry_points={
        'console_scripts': [
            f'lebot = {PACKAGE}.cli.main:main',
            *(f'{name} = {PACKAGE}.nodes.{name}:main' for name in NODES),
        ]
    },
)
