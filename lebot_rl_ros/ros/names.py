"""Topics and services by name. Relative: a namespace moves them all."""

JOINT_STATES = 'joint_states'
JOINT_COMMANDS = 'joint_commands'
JOINT_COMMANDS_APPLIED = 'joint_commands_applied'  # header.frame_id carries the driver's mode
IMU = 'imu/data'
ODOM = 'odom'
GROUND_TRUTH = 'ground_truth/odom'
CMD_VEL = 'cmd_vel'
JOY = 'joy'
STEPS = 'policy/steps'
ACTIVE_ADAPTER = 'policy/active_adapter'
REWARDS = 'reward/rewards'
REWARD_TERMS = 'reward/terms'
DIAGNOSTICS = '/diagnostics'
CLOCK = '/clock'
CAMERA_IMAGE = 'camera/image_raw'
CAMERA_COMPRESSED = 'camera/image_raw/compressed'
CAMERA_INFO = 'camera/camera_info'

STOP = 'servo_driver/stop'
CLEAR_FAULTS = 'servo_driver/clear_faults'
SET_TORQUE = 'servo_driver/set_torque'
SIM_RESET = 'sim/reset'
