"""Reports as people read them on a terminal. Nothing is computed here that is not in the report."""
