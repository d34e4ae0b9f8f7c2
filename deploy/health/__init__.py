"""Heat and power of the board, and what the flight does less of when it gets hot."""
