"""`python -m pipeline` is the command `fraudwatch`."""

from pipeline.cli import main

main()
