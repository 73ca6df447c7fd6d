"""Learning on the robot, from its own steps: learners, the gate, and the run that joins them."""
