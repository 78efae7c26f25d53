"""Requests, scheduler, runner, engine."""
