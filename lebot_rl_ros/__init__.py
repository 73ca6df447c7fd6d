"""Robot-side ROS 2 node suite for LeBot: walking policy, LoRA adapters, online learning."""

__version__ = '0.1.0'
