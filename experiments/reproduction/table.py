"""The list of the paper's claims in docs/evidence/reproduction.md, from what the experiments have found.

python experiments/reproduction/table.py            # writes the list anew
python experiments/reproduction/table.py --check    # exit code 1 if the page holds another one

A row is an entry of claims.yaml. Its cells may name figures of an experiment's results.json, as in
``{fig12[wss][all][ep]:.2f}x``: those of ``experiments/fig12/results.json``.
"""

from __future__ import annotations

import json
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "evidence" / "reproduction.md"
BEGIN, END = "<!-- claims: written by experiments/reproduction/table.py -->", "<!-- end of claims -->"
MARKS = {
    "reproduced": "Reproduced",
    "differs": "**Differs**",
    "no data": "No data",
    "serving": "Needs serving",
}
FITTED = ("figure 4c", "figure 5", "figure 5d", "figure 7c", "figure 9c")  # what the synthetic presets are fitted to
LABELS = ("paper", "paper's physics", "wss")  # of the three values of a claim


def results() -> dict[str, Any]:
    """Return what each experiment has written, by its name."""
    found = sorted(HERE.parent.glob("*/results.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}


def rows(found: dict[str, Any]) -> list[list[str]]:
    """Return the claims: place, claim, the three values, mark, cause.

    Raises
    ------
    SystemExit
        If an entry names a figure that no experiment has written, or a mark that there is not.
    """
    cells = []
    for entry in yaml.safe_load((HERE / "claims.yaml").read_text(encoding="utf-8")):
        try:
            paper, wss = (str(entry.get(key, "-")).format(**found) for key in ("paper_physics", "wss_physics"))
            cause = str(entry.get("cause", "")).format(**found)
            mark = MARKS[entry["mark"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SystemExit(
                f"claims.yaml: {entry['claim']}: {type(error).__name__} {error}; run the experiment"
            ) from None
        cells.append([entry["at"], entry["claim"], str(entry["paper"]), paper, wss, mark, cause])
    return cells


def item(row: list[str]) -> str:
    """Return a claim as an item of a list, in lines of 120 characters."""
    _, claim, *values, mark, cause = row
    found = "; ".join(f"{label}: {value}" for label, value in zip(LABELS, values, strict=True) if value != "-")
    parts = [f"**{_sentence(claim)}**", _sentence(found), _sentence(f"{mark}: {cause}" if cause else mark)]
    style = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.wrap(" ".join(parts), 120, initial_indent="- ", subsequent_indent="  ", **style))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def page(old: str, found: dict[str, Any]) -> str:
    """Return the page *old* with the list anew."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = rows(found)
    count = {mark: sum(row[5] == shown for row in body) for mark, shown in MARKS.items()}
    parts = groupby(body, key=lambda row: row[0])
    listed = "\n\n".join(f"### {at[0].upper()}{at[1:]}\n\n" + "\n".join(map(item, own)) for at, own in parts)
    fitted = sum(row[0] in FITTED and row[5] == MARKS["reproduced"] for row in body)
    said = (
        f"{count['reproduced']} reproduced ({fitted} of them are what the presets of synthetic routing are fitted to, "
        f"so no test), {count['differs']} differ, {count['no data']} without data, {count['serving']} needs serving"
    )
    summary = textwrap.fill(f"{len(body)} claims: {said}.", 120)
    return f"{before}{BEGIN}\n\n{summary}\n\n{listed}\n\n{END}{after}"


def main() -> int:
    """Write the list into the page, or check it."""
    old = PAGE.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise SystemExit(f"{PAGE.name} lacks the lines between which the list stands; put them back")
    new = page(old, results())
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
