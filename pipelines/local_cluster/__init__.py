"""The embedded cluster of one machine."""
