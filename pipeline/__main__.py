"""`python -m pipeline` is the command `fraudwatch`."""

from pipeline.cli.main import main

main()
