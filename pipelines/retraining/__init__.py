"""Adapters that keep themselves current: `retrain.retrain` is the workflow."""
