"""What dead dies cost: step time and speedup of each policy against the yield of dies.

python experiments/faults/run.py
"""

from __future__ import annotations

from pathlib import Path

from wss.config import load
from wss.errors import CapacityError, ConfigError
from wss.execution import run

CONFIG = Path(__file__).parents[2] / "configs" / "llama4_maverick.yaml"
POLICIES = ("base", "ep", "allo", "allo_pred")


def main(yields: tuple[float, ...] = (1.0, 0.96, 0.92, 0.88, 0.8), seeds: int = 3) -> None:
    """Print a table: yield, seed, living dies, and for each policy the step time in ms and the speedup over base."""
    print("yield  seed  dies   " + "   ".join(f"{name:>16}" for name in POLICIES))
    for die_yield in yields:
        for seed in range(seeds if die_yield < 1 else 1):
            faults = f"faults={{yield: {die_yield}, seed: {seed}}}"
            try:
                experiment = load(CONFIG, [faults, "steps=1", f"policies=[{', '.join(POLICIES)}]"])
                result = run(experiment)
            except (ConfigError, CapacityError) as error:
                print(f"{die_yield:5.2f}  {seed:4d}  refused: {error.faults[0][-90:]}")
                continue
            runs = {r["policy"]: r for r in result.to_dict()["runs"]}
            cells = [f"{1e3 * runs[p]['step_time_mean_s']:7.2f} ms {runs[p]['speedup']:5.2f}x" for p in POLICIES]
            print(f"{die_yield:5.2f}  {seed:4d}  {result.wafer.num_dies:4d}   " + "   ".join(cells))


if __name__ == "__main__":
    main()
