"""The graph, described once, and the runner of it where there is no `ros2 launch`."""
