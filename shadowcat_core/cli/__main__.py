"""`python -m shadowcat_core.cli` is `shadowcat`."""

from shadowcat_core.cli import main

main()
