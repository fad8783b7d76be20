"""What all pictures share: matplotlib without a screen, colours, and a file written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wss.errors import ConfigError, OutputError

# Okabe and Ito's colours, which colour-blind readers can tell apart, and hatches for print in black and white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++", "--")
HEAT = "cividis"


def pyplot(what: str) -> Any:
    """Return matplotlib's pyplot for *what* a user asked for.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: PLC0415 - an extra

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        raise ConfigError(f"{what}: needs matplotlib; install wss with the extra 'plot'") from None
    matplotlib.rcParams["svg.hashsalt"] = "wss"
    return plt


def save(fig: Any, path: Path) -> Path:
    """Write *fig* to *path*, PNG or SVG by its suffix, and return it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(part, format=path.suffix[1:], dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); give a folder with room") from error
    return path
