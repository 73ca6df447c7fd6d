"""Gymnasium environments over the simulated robot; importing this registers them."""

import gymnasium

gymnasium.register(
    id='LeBotVelocity-v0',
    entry_point='lebot_rl_ros.envs.velocity_env:LeBotVelocityEnv',
    vector_entry_point='lebot_rl_ros.envs.velocity_env:LeBotVelocityVectorEnv',
)
gymnasium.register(id='LeBotWalk-v0', entry_point='lebot_rl_ros.envs.walk_env:LeBotWalkEnv')
gymnasium.register(id='LeBotROS-v0', entry_point='lebot_rl_ros.nodes.gym_env:LeBotROSEnv')
gymnasium.register(
    id='LeBotFaults-v0',
    entry_point='lebot_rl_ros.envs.lebot_tasks:LeBotFaultsEnv',
    vector_entry_point='lebot_rl_ros.envs.lebot_tasks:LeBotFaultsVectorEnv',
)
gymnasium.register(
    id='Navigation-v0',
    entry_point='lebot_rl_ros.envs.navigation:NavigationEnv',
    vector_entry_point='lebot_rl_ros.envs.navigation:NavigationVectorEnv',
)
