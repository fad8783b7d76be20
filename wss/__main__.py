"""``python -m wss``, and the script ``wss``."""

from wss.ending import end_on_signals


def main() -> None:
    """Run the command line, which a signal ends at once; imports may take a second, so this comes before them."""
    end_on_signals()
    from wss.cli import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
