"""Objectives as pure functions on tensors."""
