"""Adapters in folders that answer without this project, by stock libraries alone, and the proof
that they answer alike.
"""
