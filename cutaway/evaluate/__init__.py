"""Metrics and invariants."""
