"""When a retraining is due, and who may run it."""
