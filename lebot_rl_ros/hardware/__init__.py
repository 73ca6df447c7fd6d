"""The robot's wires: servo buses, IMU, camera, calibration; and devices emulated at the wire."""
