"""`python -m hotlap` is the `hotlap` command."""

from hotlap.cli.main import run

run()
