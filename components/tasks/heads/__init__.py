"""Heads: what the hidden states of the last layer are turned into."""
