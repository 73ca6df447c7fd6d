"""Devices that answer on pseudo-terminals, byte for byte as the real ones, faults included."""
