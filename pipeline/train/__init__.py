"""Training: staged transfer at every freeze count, and how good the result is."""
