"""The robot in MuJoCo: model, servos, randomisation, faults. Imports mujoco; nothing of ROS."""
