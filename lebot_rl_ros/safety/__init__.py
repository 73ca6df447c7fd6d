"""Limits, faults and the watchdog: pure functions and one small state machine."""
