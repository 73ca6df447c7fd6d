"""Quality of service, in one place.

Offers are reliable, so that anyone can listen; the control loop asks for the newest.
"""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

OFFER = QoSProfile(depth=10)
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # the control loop
# Steps, rewards, evaluation.
EVERY = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# What is said seldom and never forgotten: who comes late hears all of it.
HISTORY = QoSProfile(depth=500, durability=DurabilityPolicy.TRANSIENT_LOCAL)
