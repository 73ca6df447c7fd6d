"""The control path without ROS: a state comes in, a joint target goes out."""
