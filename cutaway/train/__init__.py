"""The loop and the recipes."""
