"""``python -m wss``."""

from wss.cli import main

main()
