"""Everything beside the nodes that knows messages: names, QoS, conversions, records, spinning."""
