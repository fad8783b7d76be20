"""What comes from outside, made safe for where it goes: a terminal, a file's name, CSV, Markdown, SVG.

Names, labels and notes may be a stranger's. Each form has one function here, which all that write the form use.
"""

from __future__ import annotations

import re

LONGEST_NAME = 200  # bytes, so that what is put before and behind it finds room in the 255 of a file's name
FORMULA = (
    "=+-@\t\r\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
PLAIN_NAME = f"plain text without '/', not begun by '-' or '.', of at most {LONGEST_NAME} bytes"


def is_plain_name(text: object) -> bool:
    """Whether *text* can be a file's name, or a part of one, and names no other folder and no option."""
    return (
        isinstance(text, str)
        and bool(text)
        and text.isprintable()
        and not text.startswith(("-", "."))
        and not set(text) & set("/\\")
        and len(text.encode()) <= LONGEST_NAME
    )


def for_terminal(text: str) -> str:
    """Return *text* as one line without control characters, which could move the cursor, or forge another line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def lines_for_terminal(text: str) -> str:
    """Return *text* of several lines without any other control characters."""
    return "\n".join(map(for_terminal, text.split("\n")))


def for_csv(value: object) -> object:
    """Return *value* as a cell: text that a spreadsheet would take for a formula has a ``'`` before it."""
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
    """Return *text* as one line of Markdown that shows it as it is: no HTML, no links, no marks."""
    plain = for_terminal(" ".join(str(text).split()))
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*\[\]|])", r"\\\1", plain)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", plain)  # within a word it is no mark


def for_svg(picture: bytes) -> bytes:
    """Return a *picture* without the control characters that XML does not allow; its text is escaped already."""
    return re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", b"?", picture)
