"""`python -m phextsync.cli`."""

from phextsync.cli.main import main

main()
