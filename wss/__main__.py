"""``python -m wss``, and the script ``wss``."""

from wss.ending import end_on_signals


def main() -> None:
    """Run the command line. Signals are handled before the imports, which may take a second."""
    end_on_signals()
    from wss.cli import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
