"""`python -m pipeline.cli`, which torchrun calls."""

from pipeline.cli import main

main()
