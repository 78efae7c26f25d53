"""Inspection by hooks."""
