"""Model families and checkpoint formats."""
