"""What the runs say, in tables and plots."""
