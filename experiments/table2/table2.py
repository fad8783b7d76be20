"""Area and power of the units that the paper adds (table II): its rows, their sums, and ours from published SRAM.

    python experiments/table2/table2.py

Printed are the tables of README.md. A unit is one a die, or one a wafer. Ours takes the paper's sizes of tables, its
registers and its command processors as they are, and SRAM at a published bit cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wss.files import json_text
from wss.hardware import WAFERS, build
from wss.models import MODELS

KB, MB = 1024, 2**20
DIES = 25  # of the wafer of the paper's table
DIE_MM2 = 814.0  # H100 (NVIDIA, 2022)
DIE_W = 700.0  # H100 SXM (NVIDIA, 2022)
# 5 nm: 0.021 um2 a bit of high-density SRAM (Yeap et al., IEDM 2019); seven tenths of a macro are cells.
CELL_UM2 = 0.021
MACRO_UM2 = CELL_UM2 / 0.7
TOTAL_MM2, TOTAL_MW = 6.13, 8588.61  # the paper's last row
ATU_BITS = 68  # of an entry of the address translation unit; there are as many entries as experts in a layer


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A row of the paper's table II.

    Attributes
    ----------
    kind
        sram and registers have a size; a core is a command processor.
    size
        Bytes of one of them, 0 for a core.
    per_die
        Whether there is one a die; else one a wafer.
    mm2, mw
        The paper's area and power of all of them, on 25 dies.
    """

    name: str
    kind: Literal["sram", "registers", "core"]
    size: float = 0.0
    per_die: bool
    mm2: float
    mw: float

    def count(self, dies: int) -> int:
        """Return how many there are on a wafer of so many dies."""
        return dies if self.per_die else 1

    def um2_a_bit(self) -> float:
        """Return the paper's area of a bit."""
        return self.mm2 * 1e6 / (self.count(DIES) * self.size * 8)

    def ours(self, dies: int) -> float:
        """Return our area of all of them, mm2: SRAM by its bits, the rest as the paper has it."""
        if self.kind == "sram":
            return self.count(dies) * self.size * 8 * MACRO_UM2 * 1e-6
        return self.mm2 * self.count(dies) / self.count(DIES)


UNITS = (
    Unit(name="prediction table", kind="registers", size=128, per_die=True, mm2=0.0020, mw=55.75),
    Unit(name="address translation unit", kind="sram", size=4.25 * KB, per_die=True, mm2=0.0048, mw=334.25),
    Unit(name="Local CP (Cortex-A72)", kind="core", per_die=True, mm2=7.5, mw=7000),
    Unit(name="expert distribution table", kind="sram", size=4.5 * KB, per_die=False, mm2=0.0002, mw=13.94),
    Unit(name="heatmap cache", kind="sram", size=0.5 * MB, per_die=False, mm2=0.0278, mw=184.67),
    Unit(name="Global CP (Cortex-A76)", kind="core", per_die=False, mm2=1.1, mw=1000),
)


def units() -> list[str]:
    """Return the rows of the paper's table with our area beside, and both sums."""
    lines = [
        "| unit | how many | size | paper, mm2 | paper, mW | paper, um2 a bit | ours, mm2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for unit in UNITS:
        size, bit = ("", "") if unit.kind == "core" else (f"{unit.size / KB:g} KB", f"{unit.um2_a_bit():.4f}")
        cells = (unit.name, unit.count(DIES), size, f"{unit.mm2:g}", f"{unit.mw:g}", bit, f"{unit.ours(DIES):.4f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    mm2, mw, ours = sum(u.mm2 for u in UNITS), sum(u.mw for u in UNITS), sum(u.ours(DIES) for u in UNITS)
    lines.append(f"| sum of the rows | | | {mm2:.2f} | {mw:,.2f} | | {ours:.2f} |")
    lines.append(f"| total that the paper prints | | | {TOTAL_MM2} | {TOTAL_MW:,} | | |")
    return lines


def shares() -> list[str]:
    """Return the shares of both wafers' dies: the paper's sums, ours, and the parts that are not cores."""
    lines = [
        "| wafer | units a kind | ours, mm2 | of the dies' area | without the cores | power, W | of the dies' power |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("dojo", "tsmc_sow"):
        dies = build(WAFERS[name]).num_dies
        area = sum(unit.ours(dies) for unit in UNITS)
        tables = sum(unit.ours(dies) for unit in UNITS if unit.kind != "core")
        watts = sum(unit.mw * unit.count(dies) / unit.count(DIES) for unit in UNITS) / 1e3
        lines.append(
            f"| `{name}` | {dies} | {area:.2f} | {100 * area / (dies * DIE_MM2):.3f}% | {tables:.2f} mm2, "
            f"{100 * tables / (dies * DIE_MM2):.4f}% | {watts:.2f} | {100 * watts / (dies * DIE_W):.3f}% |"
        )
    for what, area in (("paper, rows", sum(u.mm2 for u in UNITS)), ("paper, printed", TOTAL_MM2)):
        lines.append(
            f"| {what} | {DIES} | {area:.2f} | {100 * area / (DIES * DIE_MM2):.3f}% | | {TOTAL_MW / 1e3:.2f} | "
            f"{100 * TOTAL_MW / 1e3 / (DIES * DIE_W):.3f}% |"
        )
    return lines


def all_layers() -> list[str]:
    """Return what address translation would take if it held all layers of a model at once."""
    lines = ["| model | entries a die, all layers | a die | 25 dies, mm2 |", "|---|---|---|---|"]
    for name, model in MODELS.items():
        entries = model.num_experts * len(model.moe_layers)
        size = entries * ATU_BITS / 8
        lines.append(f"| `{name}` | {entries:,} | {size / KB:.0f} KB | {DIES * size * 8 * MACRO_UM2 * 1e-6:.2f} |")
    return lines


def results() -> dict[str, float]:
    """Return areas of all units on the paper's wafer, mm2, and shares of the dies' area and power."""
    ours, rows = sum(unit.ours(DIES) for unit in UNITS), sum(unit.mm2 for unit in UNITS)
    area, power = DIES * DIE_MM2, DIES * DIE_W
    shares = {"ours_share": ours / area, "rows_share": rows / area, "printed_share": TOTAL_MM2 / area}
    return {"ours_mm2": ours, "rows_mm2": rows, **shares, "power_share": TOTAL_MW / 1e3 / power}


def main() -> None:
    """Print the three tables, and write the sums."""
    print("\n\n".join("\n".join(table()) for table in (units, shares, all_layers)))
    Path(__file__).with_name("results.json").write_text(json_text(results(), sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
