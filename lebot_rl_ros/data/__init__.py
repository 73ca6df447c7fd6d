"""Records of what happened: the step and reward rows that are published, recorded and learned from."""
