"""The task: observations, actions, commands, rewards, terminations, as small terms over RobotState."""
