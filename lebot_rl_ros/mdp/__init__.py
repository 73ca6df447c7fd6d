"""The task: observations, actions, commands, rewards, terminations, as terms over RobotState."""
