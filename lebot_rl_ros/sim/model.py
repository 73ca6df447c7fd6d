"""The robot in MuJoCo: URDF in, compiled model with servos and a floor out."""

import copy
import math

import mujoco
import numpy as np

from lebot_rl_ros.robot import Robot, ServoModel

FLOOR = 'floor'
CAMERA = 'track'  # follows the robot
ONBOARD = 'onboard'  # the robot's own, where the URDF has a camera_optical_frame
ONBOARD_FOVY = 60.0  # degrees
HEAVY = 1e6  # kg, and kg·m²: a body that legs cannot move


def build_model(
    robot: Robot, timestep: float, *, visible: bool = False, held: bool = False
) -> mujoco.MjModel:
    """Compile the robot's URDF with servos on its joints, on a flat floor.

    A servo is a DC motor behind a position controller: the proportional part is limited to the
    stall torque, and the back-EMF is the joint's damping, so that torque falls along the
    speed-torque line. MuJoCo integrates the damping implicitly, which keeps long substeps stable.

    Args:
        robot: joint table with its URDF.
        timestep: seconds of one physics substep.
        visible: with what is only seen: shapes without contact, light, cameras. Physics is the
            same without, and faster.
        held: the body is clamped in the air: too heavy to move, and weightless.
    """
    spec = mujoco.MjSpec.from_file(str(robot.urdf))
    spec.modelname = robot.name
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations = 10
    spec.option.ls_iterations = 10
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND  # one robot, one island
    base = spec.body(robot.base_link)
    base.add_freejoint(name='world')
    base.pos = [0.0, 0.0, standing_height(robot)]
    if held:
        base.fullinertia = [math.nan] * 6  # not given
        base.mass, base.inertia, base.gravcomp = HEAVY, [HEAVY] * 3, 1.0
        spec.option.tolerance = 0.0  # MuJoCo's is relative to the mean inertia
    for geom in list(spec.geoms):
        solid = geom.contype != 0 or geom.conaffinity != 0
        geom.contype, geom.conaffinity = 0, int(solid)  # robots touch the floor, never themselves
        geom.condim = 3
        if not (solid or visible):
            spec.delete(geom)
    for joint, servo in zip(robot.joints, robot.joint_servos, strict=True):
        _add_servo(spec, joint.name, servo)
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1],
        contype=1, conaffinity=0, condim=3, friction=[0.8, 0.005, 0.0001], priority=1,
    )  # fmt: skip
    if visible:
        _add_sights(spec, base)
    return spec.compile()


def standing_height(robot: Robot) -> float:
    """Height (m) of base_link above a flat floor in the nominal pose."""
    feet = robot.legs(robot.stand, np.zeros_like(robot.stand))
    return float(robot.legs.foot_radius - feet.position[2].min())


def copies(model: mujoco.MjModel, count: int) -> list[mujoco.MjModel]:
    """Return models to change one by one: each robot has its own masses, servos and floor."""
    return [copy.deepcopy(model) for _ in range(count)]


def _add_servo(spec: mujoco.MjSpec, name: str, servo: ServoModel) -> None:
    joint = spec.joint(name)
    joint.damping[0] = servo.damping
    joint.armature = servo.armature
    joint.frictionloss = servo.friction
    joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
    actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=servo.kp)
    actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    actuator.forcerange = [-servo.stall_torque, servo.stall_torque]


def _add_sights(spec: mujoco.MjSpec, base: mujoco.MjsBody) -> None:
    texture = spec.add_texture(
        name='grid', type=mujoco.mjtTexture.mjTEXTURE_2D, width=256, height=256,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.86, 0.88, 0.90], rgb2=[0.78, 0.80, 0.83],
    )  # fmt: skip
    material = spec.add_material(name='grid', texrepeat=[5, 5], texuniform=True, reflectance=0.05)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name
    spec.add_texture(
        name='sky', type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=64,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86], rgb2=[0.95, 0.97, 0.99],
    )  # fmt: skip
    spec.geom(FLOOR).material = material.name
    # The light goes with the robot, high and narrow: so its shadow map is fine enough.
    spec.stat.extent = 1.0
    spec.visual.quality.shadowsize = 4096
    base.add_light(
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACK,
        pos=[0.0, 0.0, 1.5],
        dir=[0.2, 0.1, -1.0],
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )
    base.add_camera(
        name=CAMERA, mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACK, pos=[-0.25, -0.75, 0.30],
        xyaxes=[0.95, -0.31, 0.0, 0.10, 0.30, 0.95],
    )  # fmt: skip
    optical = spec.body('camera_optical_frame')
    if optical is not None:
        # MuJoCo's cameras look along -z with y up, optical frames along z with y down (REP-103).
        optical.add_camera(name=ONBOARD, quat=[0.0, 1.0, 0.0, 0.0], fovy=ONBOARD_FOVY)
