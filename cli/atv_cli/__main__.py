"""`python -m atv_cli` is `atv-local`."""

from atv_cli.main import main

main()
