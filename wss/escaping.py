"""Escaping of untrusted text for a terminal, file names, CSV, Markdown and SVG.

Names, labels and notes may come from files of others. Each output format has one function here, which all its writers
use.
"""

from __future__ import annotations

import re

LONGEST_NAME = 200  # bytes, which leaves some of a file name's 255 for prefixes and suffixes
FORMULA = (
    "=+-@\t\r\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
PLAIN_NAME = f"plain text without '/', not begun by '-' or '.', of at most {LONGEST_NAME} bytes"


def is_plain_name(text: object) -> bool:
    """Whether *text* can be a file's name or part of one; not a path, a hidden file or an option."""
    return (
        isinstance(text, str)
        and bool(text)
        and text.isprintable()
        and not text.startswith(("-", "."))
        and not set(text) & set("/\\")
        and len(text.encode()) <= LONGEST_NAME
    )


def for_terminal(text: str) -> str:
    """Return *text* as one line without control characters, which could move the cursor or forge another line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def lines_for_terminal(text: str) -> str:
    """Return *text* of several lines without any other control characters."""
    return "\n".join(map(for_terminal, text.split("\n")))


def for_csv(value: object) -> object:
    """Return *value* as a cell; text that a spreadsheet would treat as a formula is prefixed with ``'``."""
    if not isinstance(value, str) or not value.lstrip(" ").startswith(tuple(FORMULA)):
        return value
    return value if value == "-" or _is_number(value) else f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def for_markdown(text: object) -> str:
    """Return *text* as one line of Markdown that renders literally: no HTML, no links, no emphasis."""
    plain = for_terminal(" ".join(str(text).split()))
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*\[\]|])", r"\\\1", plain)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", plain)  # inside a word it is literal


def for_svg(picture: bytes) -> bytes:
    """Return *picture* without the control characters that XML forbids; its text is already escaped."""
    return re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", b"?", picture)
