"""What stands between a typed command and a workflow."""
