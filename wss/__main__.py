"""``python -m wss``."""

import sys

try:
    from wss.cli import main
except KeyboardInterrupt:
    sys.exit(130)

main()
