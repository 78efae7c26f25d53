"""Weights in few bits: formats, tensors, and products with them."""
