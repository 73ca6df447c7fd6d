"""Topics and services by name. Relative: a namespace moves them all."""

JOINT_STATES = 'joint_states'
JOINT_COMMANDS = 'joint_commands'
JOINT_COMMANDS_APPLIED = 'joint_commands_applied'  # header.frame_id carries the driver's mode
IMU = 'imu/data'
ODOM = 'odom'
GROUND_TRUTH = 'ground_truth/odom'
TRUE_JOINTS = 'ground_truth/joint_states'
CMD_VEL = 'cmd_vel'
JOY = 'joy'
STEPS = 'policy/steps'
ACTIVE_ADAPTER = 'policy/active_adapter'
REWARDS = 'reward/rewards'
REWARD_TERMS = 'reward/terms'
LEARNER_PROGRESS = 'learner/progress'  # stamp of the state up to which everything was taken
LEARNER_TRIAL = 'learner/trial'  # frame_id is the version that acts on trial; '' if none does
LEARNER_STATISTICS = 'learner/statistics'
LEARNER_VERDICTS = 'learner/verdicts'
RECORDER_PROGRESS = 'recorder/progress'  # stamp of the newest state that was recorded
DIAGNOSTICS = '/diagnostics'
CLOCK = '/clock'
CAMERA_IMAGE = 'camera/image_raw'
CAMERA_COMPRESSED = 'camera/image_raw/compressed'
CAMERA_INFO = 'camera/camera_info'

STOP = 'servo_driver/stop'
CLEAR_FAULTS = 'servo_driver/clear_faults'
SET_TORQUE = 'servo_driver/set_torque'
LIST_ADAPTERS = 'policy/list_adapters'
ROLLBACK_ADAPTER = 'policy/rollback_adapter'
ENABLE_LEARNER = 'learner/enable'
SAVE_LEARNER = 'learner/save'
SIM_RESET = 'sim/reset'
START_RECORDING = 'recorder/start'
STOP_RECORDING = 'recorder/stop'
SPLIT_RECORDING = 'recorder/split'
SAVE_RECORDING = 'recorder/save'
