"""Everything that knows messages, beside the nodes: names, QoS, conversions, records, diagnostics, spinning."""
