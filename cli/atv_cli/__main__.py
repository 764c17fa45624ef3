"""Where `atv-local` and `python -m atv_cli` begin: Ctrl-C while the program is still being imported is not an error."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from atv_cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
