"""Sampling settings, logits processors, drawing, beam search."""
