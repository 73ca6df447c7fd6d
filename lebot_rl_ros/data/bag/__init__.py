"""Bags of rosbag2 with MCAP storage: written, mended, read, without a ROS install."""
