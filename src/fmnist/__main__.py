"""`python -m fmnist`: the command line."""

from fmnist.cli.main import main

main()
