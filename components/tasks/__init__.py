"""Tasks: what is learnt from documents."""
