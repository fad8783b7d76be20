"""The result of `wss flows` as text."""

from __future__ import annotations

from typing import Any

from wss.units import show

MOST = 20


def flows_text(result: dict[str, Any]) -> str:
    """Return a table of the flows, last to finish first, and of the busiest links."""
    last = sorted(result["flows"], key=lambda flow: -flow["finish_s"])
    busiest = sorted(result["links"], key=lambda link: -link["busy_s"])
    lines = [
        f"{result['scenario']}: {result['n_flows']} flows over {result['config']}, all done at "
        f"{show(result['makespan_s'], 'time', 6)}",
        result["semantics"],
        "",
        "flow            finish",
        *(f"{flow['id']!s:12} {show(flow['finish_s'], 'time', 6):>9}" for flow in last[:MOST]),
    ]
    if len(last) > MOST:
        lines.append(f"... and {len(last) - MOST} that end before; --json lists all")
    lines += ["", "link                  bytes        busy"]
    for link in busiest[:MOST]:
        name = f"{link['src']}->{link['dst']}".replace(" ", "")
        lines.append(f"{name:16} {show(link['bytes'], 'size'):>10}  {show(link['busy_s'], 'time'):>10}")
    return "\n".join(lines)
