"""Learning an adapter from recorded steps, without a robot."""
