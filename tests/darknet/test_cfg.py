"""Reading and changing cfg files, and the one line that every mistake in one gets."""
