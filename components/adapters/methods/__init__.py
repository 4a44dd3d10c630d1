"""Adapter methods, one file each; `method.py` is what every one of them answers."""
