"""`python -m reconciler`: the command, for where no script was installed."""

from reconciler.cli import main

main()
