"""The boards that a bundle may be for: what each can do, how it is flashed. Facts in YAML, read and checked here."""
