"""Records of what happened: the step and reward rows, published, recorded and learned from."""
