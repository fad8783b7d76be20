"""Area and power of the units that the paper adds, from its sizes and published figures of SRAM.

python experiments/table2/table2.py
"""

from __future__ import annotations

from wss.hardware import WAFERS, build
from wss.models import MODELS
from wss.units import show

# The paper's sizes (arXiv 2510.05497, section on overhead), in bytes.
ATU, PU = 4.25 * 1024, 128.0  # address translation and prediction unit of a D2D controller
CACHE = 0.5 * 2**20  # heatmap cache of the Global Command Processor; the 50 MB of heatmap are in its DRAM

# 5 nm: 0.021 um2 a bit of high-density SRAM (Yeap et al., IEDM 2019); seven tenths of a macro are cells.
MM2_A_BIT = 0.021e-6 / 0.7
DIE_MM2 = 814.0  # H100 (NVIDIA, 2022)
DIE_W = 700.0  # H100 SXM (NVIDIA, 2022)
# 10 pJ for 64 bits out of 8 KB of SRAM in 45 nm (Horowitz, ISSCC 2014): not scaled to 5 nm, so too much.
J_A_LOOKUP = 10e-12


def main() -> None:
    """Print area and power of the units on both wafers, with their parts."""
    for name in ("dojo", "tsmc_sow"):
        wafer = build(WAFERS[name])
        controllers = wafer.num_links  # each directed link has a controller where it begins
        table_bits = max(
            model.num_experts * len(model.moe_layers) * (5 + wafer.num_dies) for model in MODELS.values()
        )  # home die and a bit a die, for each expert of each layer
        parts = {
            f"{controllers} D2D controllers (ATU, PU)": controllers * (ATU + PU) * 8 * MM2_A_BIT,
            "cache of the Global Command Processor": CACHE * 8 * MM2_A_BIT,
            "expert distribution table, largest model": table_bits * MM2_A_BIT,
        }
        area = sum(parts.values())
        lookups = wafer.spec.link.bandwidth / wafer.spec.link.granule  # a second, on a link that is always busy
        power = controllers * lookups * J_A_LOOKUP
        print(f"{name}: {wafer.num_dies} dies of {DIE_MM2:g} mm2 and {DIE_W:g} W")
        for what, mm2 in parts.items():
            print(f"  {what:42} {mm2:7.4f} mm2")
        print(f"  {'together':42} {area:7.4f} mm2, {100 * area / (wafer.num_dies * DIE_MM2):.4f}% of the dies")
        print(
            f"  {'look-ups, every link busy all the time':42} {power:7.2f} W,   "
            f"{100 * power / (wafer.num_dies * DIE_W):.4f}% "
            f"({show(lookups * wafer.spec.link.granule, 'bandwidth')} a link)"
        )


if __name__ == "__main__":
    main()
