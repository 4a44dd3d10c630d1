"""The Longformer family: inputs, hooks, and its fast exact attention."""
