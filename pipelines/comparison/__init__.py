"""Methods x tasks x seeds under one harness."""
