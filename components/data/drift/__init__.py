"""Are new documents still of the kind that the old ones were? `checks.compare` is the door."""
