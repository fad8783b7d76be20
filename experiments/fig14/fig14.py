"""Figure 14: what the HBMs read and write for Qwen3 on TSMC-SoW at batch 4,096, under the paper's physics and ours.

python experiments/fig14/fig14.py --quick     # 4 steps, 6 layers
python experiments/fig14/fig14.py             # 127 steps, all layers; writes experiments/fig14/results.json
python experiments/fig14/fig14.py --show      # the tables of results.json, without a run

The paper shows bars, of which only sentences are at hand: each is a row of the first table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wss.config import load
from wss.execution import run
from wss.files import json_text
from wss.report.markdown import table

ROOT = Path(__file__).parents[2]
SETTING = ["wafer=tsmc_sow", "batch=4096", "trace.synth.requests=16384"]
FULL, QUICK = ["steps=127"], ["steps=4", "layers.sample=6"]
PHYSICS = {"paper": "the paper's physics", "wss": "wss' physics"}
KINDS = {"local": "local_read_bytes", "remote": "remote_read_bytes", "written": "local_write_bytes"}
POLICIES = ("base", "ep", "pred", "allo", "allo_pred")
Bytes = dict[str, dict[str, float]]  # by policy, then kind


def measured(settings: Sequence[str]) -> dict[str, Bytes]:
    """Return, by physics, the bytes that all HBMs together read and wrote in decode."""
    found = {}
    for physics in PHYSICS:
        experiment = load(ROOT / "configs" / "qwen3_235b.yaml", [*SETTING, f"physics={physics}", *settings])
        runs = {own["policy"]: own for own in run(experiment).to_dict()["runs"]}
        found[physics] = {name: {kind: runs[name][key] for kind, key in KINDS.items()} for name in POLICIES}
    return found


def remote_share(own: Bytes, policy: str) -> float:
    """Return the share of remote reads in all reads of *policy*."""
    return own[policy]["remote"] / (own[policy]["local"] + own[policy]["remote"])


def _share(policy: str, *, mostly_remote: bool) -> Callable[[Bytes], tuple[str, bool]]:
    def found(own: Bytes) -> tuple[str, bool]:
        share = remote_share(own, policy)
        return f"{100 * share:.1f}% remote", (share > 0.5) == mostly_remote

    return found


def _fewest(own: Bytes) -> tuple[str, bool]:
    pred, allo, both = (own[name]["remote"] / 1e12 for name in ("pred", "allo", "allo_pred"))
    return f"{both:.2f} TB; {pred:.2f} and {allo:.2f}", both < min(pred, allo)


def _writes(own: Bytes) -> tuple[str, bool]:
    written = {name: own[name]["written"] / 1e12 for name in POLICIES}
    copying = {name for name, amount in written.items() if amount > 0}
    return ", ".join(f"{name} {written[name]:.2f} TB" for name in POLICIES if name in copying), copying == {
        "pred",
        "allo_pred",
    }


CLAIMS: dict[str, Callable[[Bytes], tuple[str, bool]]] = {  # what the paper says: what is found, and whether it holds
    "`base` reads mostly from afar": _share("base", mostly_remote=True),
    "`pred` reads mostly locally": _share("pred", mostly_remote=False),
    "`allo` reads mostly locally": _share("allo", mostly_remote=False),
    "`allo_pred` reads mostly locally": _share("allo_pred", mostly_remote=False),
    "`allo_pred` has fewer remote reads than `pred` and `allo`": _fewest,
    "writes come from duplication alone": _writes,
}


def claims(found: dict[str, Bytes]) -> list[dict[str, Any]]:
    """Return what the paper says, and of each physics what was found and whether it agrees."""
    return [
        {
            "says": said,
            **{physics: dict(zip(("found", "holds"), judge(found[physics]), strict=True)) for physics in PHYSICS},
        }
        for said, judge in CLAIMS.items()
    ]


def tables(content: dict[str, Any]) -> str:
    """Return the tables of a page."""
    judged = [
        [row["says"], *(f"{row[p]['found']}: {'yes' if row[p]['holds'] else 'no'}" for p in PHYSICS)]
        for row in content["claims"]
    ]
    amounts = [
        [PHYSICS[physics], f"`{name}`", *(f"{own[name][kind] / 1e12:.2f}" for kind in KINDS)]
        for physics, own in content["bytes"].items()
        for name in POLICIES
    ]
    shown = table(["the paper", *PHYSICS.values()], judged)
    return shown + "\n\n" + table(["TB in decode", "policy", "local reads", "remote reads", "copies written"], amounts)


def main() -> None:
    """Run, print, and write results.json; a quick run writes beside it, where git does not look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kept = Path(__file__).with_name("results.json")
    if given.show:
        print(tables(json.loads(kept.read_text(encoding="utf-8"))))
        return
    settings = [*(QUICK if given.quick else FULL), *given.set]
    found = measured(settings)
    content = {"figure": 14, "settings": [*SETTING, *settings], "claims": claims(found), "bytes": found}
    out = given.out or (ROOT / "results" / "fig14_quick.json" if given.quick else kept)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json_text(content, sort_keys=False) + "\n", encoding="utf-8")
    print(tables(content))
    print(f"\nwritten: {out}")


if __name__ == "__main__":
    main()
