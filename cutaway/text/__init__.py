"""Tokenisers, chat rendering, detokenising."""
