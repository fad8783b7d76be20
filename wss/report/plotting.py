"""Shared by all pictures: matplotlib without a display, colours, and atomic writing of files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from wss.errors import ConfigError
from wss.escaping import for_svg
from wss.files import write_whole
from wss.policies import KINDS

# Okabe and Ito's colours, distinguishable for colour-blind readers, and hatches for print in black and white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MOST_LOOKS = 64  # pairs of a colour and a hatch
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++", "--")
HEAT = "cividis"
WRITER = "wss report"  # in the metadata of pictures
WIDTH = 7.0  # inches, of the pictures: the text width of a printed page
PRINT = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "figure.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a user's label may have a dollar sign
    "svg.hashsalt": "wss",  # reproducible bytes
    "svg.fonttype": "none",  # text stays text
}


def _pyplot(what: str, backend: str | None) -> Any:
    """Return matplotlib's pyplot for *what*, the user's command or call; *backend* None: the user's own."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # a missing folder for matplotlib's own cache is harmless
    try:
        import matplotlib  # noqa: PLC0415 - an extra

        if backend is not None:
            matplotlib.use(backend)
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        raise ConfigError(f"{what}: needs matplotlib; install wss with the extra 'plot'") from None
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{what}: matplotlib cannot read its settings, such as matplotlibrc ({reason})") from None
    finally:
        log.setLevel(level)
    return plt


@contextmanager
def paper(what: str = "report", backend: str | None = "Agg") -> Iterator[Any]:
    """Yield pyplot for *what*, the user's command or call, set for print at `WIDTH`, and close its pictures at the end.

    Raises ConfigError if matplotlib is not installed.
    """
    plt = _pyplot(what, backend)
    before = set(plt.get_fignums())
    with plt.style.context("default"), plt.rc_context(PRINT):  # ignores a matplotlibrc in this folder
        try:
            yield plt
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)


def looks(policies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour and hatch by policy: a preset has the same in all pictures; others have one by their names."""
    fixed = {name: number for number, name in enumerate(name for names in KINDS.values() for name in names)}
    left = MOST_LOOKS - len(fixed)
    numbers: dict[str, int] = {}
    for policy in policies:
        first = crc32(policy.encode())
        own = [len(fixed) + (first + i) % left for i in range(left)]
        numbers[policy] = fixed.get(policy, next((n for n in own if n not in numbers.values()), own[0]))
    return {policy: look(number) for policy, number in numbers.items()}


def look(number: int) -> dict[str, Any]:
    """Return colour and hatch of bar *number*; the pairs differ for 64 of them."""
    hatch = HATCHES[(number + number // len(COLOURS)) % len(HATCHES)]
    return {"color": COLOURS[number % len(COLOURS)], "hatch": hatch, "edgecolor": "white", "lw": 0.3}


def shorten(label: object, most: int) -> str:
    """Return a label as text of at most *most* characters."""
    text = str(label)
    return text if len(text) <= most else text[: most - 1] + "…"


def is_drawn(path: Path) -> bool:
    """Whether `save` wrote *path*."""
    with path.open("rb") as file:
        return WRITER.encode() in file.read(2000)


def save(fig: Any, path: Path, dpi: int = 200) -> Path:
    """Write *fig* to *path*, PNG or SVG by its suffix, and return it. Raises OutputError if it cannot be written."""
    kind = path.suffix[1:]
    smaller: dict[str, Any] = {"pil_kwargs": {"optimize": True}} if kind == "png" else {}
    about: dict[str, Any] = {"Software": WRITER} if kind == "png" else {"Date": None, "Creator": WRITER}

    def draw(part: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a label in a script without a font
            fig.savefig(part, format=kind, dpi=dpi, metadata=about, **smaller)
        if kind == "svg":
            part.write_bytes(for_svg(part.read_bytes()))

    write_whole(path, draw, "give a folder with room")
    return path
