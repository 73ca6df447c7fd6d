"""Learning: returns, storage, PPO and the training loop."""
