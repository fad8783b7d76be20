"""Scenarios of transfers on a mesh over one network: read, check, run.

The file is JSON: ``topology`` {x, y}, ``link_bandwidth_Bps``, ``hop_latency_s`` and ``flows``, a list of {id, src, dst,
bytes, start_s}; src and dst are [x, y]. Only links are modelled: no HBM, LLC or request bytes. Other keys are ignored.
Flows are processed in the order of their ids, which also breaks ties between equal starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wss.engine.network.resources import Resources, link_table
from wss.engine.network.transfers import transfer_all
from wss.engine.specs import CircuitSpec, FluidSpec, NetworkSpec, PacketSpec
from wss.errors import ConfigError
from wss.files import parse_json
from wss.hardware.routing import xy
from wss.reading import read_plain
from wss.records import FloatArray, IntArray

MAX_DIES = 1024
SEMANTICS = {
    "fluid": "max-min fair sharing of links; a flow waits hops x hop_latency after start_s, then joins the sharing",
    "packet": "chunks stored and forwarded, FIFO per directed link; a link is busy bytes/bandwidth, the chunk arrives "
    "hop_latency later; chunks of equal start take turns by the order of the flows",
    "circuit": "a transfer holds its whole route for hops x hop_latency + bytes/bandwidth; in order of start_s, "
    "no backfill",
}
FLOW_KEYS = ("id", "src", "dst", "bytes", "start_s")


@dataclass(frozen=True, eq=False, kw_only=True)
class Scenario:
    """A checked scenario.

    Attributes
    ----------
    name, ids
        Name of the scenario, ids of its flows, [flows].
    nbytes, start
        Bytes and start (s) of each flow, [flows].
    links
        The two dies of each directed link, ((x, y), (x, y)).
    paths, lengths
        Link indices of each flow's route, [flows, longest], and their number, [flows].
    bandwidth, latency
        Bandwidth of a link (B/s), latency of a hop (s).
    """

    name: str
    ids: tuple[int | str, ...]
    nbytes: FloatArray
    start: FloatArray
    links: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    paths: IntArray
    lengths: IntArray
    bandwidth: float
    latency: float


SCHEMA = "netref-scenario-1"


def read_scenario(path: Path) -> Scenario:
    """Read the scenario of *path*.

    Raises
    ------
    ConfigError
        If it cannot be read or is invalid; one line per error.
    """
    try:
        content = parse_json(read_plain(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a scenario in JSON") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(f"{path}: is not readable JSON ({reason}); give a scenario in JSON") from None
    faults = _faults(content)
    if faults:
        raise ConfigError(*(f"{path}: {fault}" for fault in faults[:100]))
    return _scenario(content, path.stem)


def _faults(content: Any) -> list[str]:
    """Return the errors in the content of a scenario file, one line each."""
    if not isinstance(content, dict):
        return ["is not an object; it should have topology, link_bandwidth_Bps, hop_latency_s and flows"]
    faults = []
    topology = content.get("topology")
    size: list[Any] = [topology.get(axis) for axis in "xy"] if isinstance(topology, dict) else [None, None]
    if not all(_whole(n) and n >= 1 for n in size) or size[0] * size[1] > MAX_DIES:
        faults.append(f"topology: x and y are {size}; they should be whole numbers from 1, {MAX_DIES} dies at most")
        size = [MAX_DIES, MAX_DIES]
    kind = topology.get("kind", "mesh2d") if isinstance(topology, dict) else "mesh2d"
    if kind != "mesh2d":
        faults.append(f"topology: kind is {kind!r}; flows run on a mesh2d")
    if not str(content.get("routing", "XY")).startswith("XY"):
        faults.append(f"routing: {content['routing']!r} is not known; flows are routed XY, x first")
    if content.get("schema", SCHEMA) != SCHEMA:
        faults.append(f"schema: {content['schema']!r} is not known; it should be {SCHEMA!r}")
    if not _number(content.get("link_bandwidth_Bps")) or content["link_bandwidth_Bps"] <= 0:
        faults.append(f"link_bandwidth_Bps: {content.get('link_bandwidth_Bps')!r} should be a number above 0, in B/s")
    if not _number(content.get("hop_latency_s")) or content["hop_latency_s"] < 0:
        faults.append(f"hop_latency_s: {content.get('hop_latency_s')!r} should be a number, at least 0, in s")
    flows = content.get("flows")
    if not isinstance(flows, list) or not flows or not all(isinstance(flow, dict) for flow in flows):
        return [*faults, "flows: should be a list of at least one {id, src, dst, bytes, start_s}"]
    seen: set[Any] = set()
    for i, flow in enumerate(flows):
        faults += [f"flows.{i}.{fault}" for fault in _flow_faults(flow, size, seen)]
    return faults


def _flow_faults(flow: dict[str, Any], size: list[int], seen: set[Any]) -> list[str]:
    faults = [f"{key}: is missing; a flow has {', '.join(FLOW_KEYS)}" for key in FLOW_KEYS if key not in flow]
    faults += [f"{key}: is not a key of a flow; it has {', '.join(FLOW_KEYS)}" for key in flow if key not in FLOW_KEYS]
    if faults:
        return faults
    if not (_whole(flow["id"]) or isinstance(flow["id"], str)):
        faults.append(f"id: {flow['id']!r} should be a whole number or text")
    elif flow["id"] in seen:
        faults.append(f"id: {flow['id']!r} is there twice; give each flow an id of its own")
    else:
        seen.add(flow["id"])
    for end in ("src", "dst"):
        die = flow[end]
        if not (isinstance(die, list) and len(die) == 2 and all(_whole(c) for c in die)):
            faults.append(f"{end}: {die!r} should be [x, y]")
        elif not all(0 <= c < n for c, n in zip(die, size, strict=True)):
            faults.append(f"{end}: {die} is not on the mesh of {size[0]} x {size[1]} dies")
    faults += [
        f"{key}: {flow[key]!r} should be a number, at least 0"
        for key in ("bytes", "start_s")
        if not _number(flow[key]) or flow[key] < 0
    ]
    return faults


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scenario(content: dict[str, Any], stem: str) -> Scenario:
    size = (content["topology"]["x"], content["topology"]["y"])
    dies = [(x, y) for x in range(size[0]) for y in range(size[1])]
    links = [
        ((x, y), other)
        for x, y in dies
        for other in ((x - 1, y), (x, y - 1), (x, y + 1), (x + 1, y))
        if 0 <= other[0] < size[0] and 0 <= other[1] < size[1]
    ]
    number = {link: i for i, link in enumerate(links)}
    flows = sorted(content["flows"], key=lambda flow: (isinstance(flow["id"], str), flow["id"]))
    routes = [[number[step] for step in pairwise(xy(tuple(f["src"]), tuple(f["dst"])))] for f in flows]
    lengths = np.array([len(route) for route in routes], np.int64)
    paths = np.zeros((len(flows), max(1, int(lengths.max()))), np.int64)
    for f, route in enumerate(routes):
        paths[f, : len(route)] = route
    return Scenario(
        name=str(content.get("name", stem)),
        ids=tuple(flow["id"] for flow in flows),
        nbytes=np.array([flow["bytes"] for flow in flows], np.float64),
        start=np.array([flow["start_s"] for flow in flows], np.float64),
        links=tuple(links),
        paths=paths,
        lengths=lengths,
        bandwidth=float(content["link_bandwidth_Bps"]),
        latency=float(content["hop_latency_s"]),
    )


def run_flows(scenario: Scenario, network: str, chunk: float, window: int, duplex: str) -> dict[str, Any]:
    """Run *scenario* and return its result as plain data: finish of each flow, makespan, bytes and busy time per link.

    A flow from a die to itself crosses no link and ends when it starts. A flow of zero bytes takes the latency of its
    hops.
    """
    finish, busy = _finish(scenario, network, chunk, window, duplex)
    carried = np.zeros(len(scenario.links))
    for f, length in enumerate(scenario.lengths):
        carried[scenario.paths[f, :length]] += scenario.nbytes[f]
    settings: dict[str, Any] = {"network": network}
    if network == "packet":
        settings |= {"chunk_bytes": chunk, "window_chunks": window or "none"}
    if network == "circuit":
        settings["duplex"] = duplex
    return {
        "schema": "netref-result-1",
        "scenario": scenario.name,
        "config": f"wss-{network}",
        "settings": settings,
        "semantics": SEMANTICS[network],
        "units": {"finish_s": "s, absolute time at which the last byte is delivered", "makespan_s": "s"},
        "makespan_s": float(finish.max()),
        "n_flows": len(finish),
        "flows": [{"id": i, "finish_s": float(t)} for i, t in zip(scenario.ids, finish, strict=True)],
        "links": [
            {"src": list(a), "dst": list(b), "bytes": float(carried[i]), "busy_s": float(busy[i])}
            for i, (a, b) in enumerate(scenario.links)
        ],
    }


def _finish(scenario: Scenario, network: str, chunk: float, window: int, duplex: str) -> tuple[FloatArray, FloatArray]:
    """Return when each flow ends, [flows], and how long each link was busy, [links]."""
    chunks = np.ceil(scenario.nbytes / chunk)
    if network == "packet" and float(chunks.sum()) > 50e6:
        raise ConfigError(
            f"--chunk {chunk:g} B: cuts these flows into more than 50 million chunks; give a larger chunk"
        )
    specs: dict[str, NetworkSpec] = {
        "fluid": FluidSpec(),
        "packet": PacketSpec(chunk=chunk, window=window or max(1, int(chunks.max()))),
        "circuit": CircuitSpec(duplex="half" if duplex == "half" else "full"),
    }
    dies = {die: i for i, die in enumerate(dict.fromkeys(end for link in scenario.links for end in link))}
    links = np.array([[dies[a], dies[b]] for a, b in scenario.links], np.int64).reshape(-1, 2)
    resources = Resources(np.full(len(links), scenario.bandwidth), 0, links)
    paths = np.where(np.arange(scenario.paths.shape[1]) < scenario.lengths[:, None], scenario.paths, -1)
    each = np.full(len(links), scenario.latency)
    table = link_table(resources, paths, np.multiply(scenario.lengths, scenario.latency), each)
    finish, accounts = transfer_all(specs[network].model(resources), resources, table, scenario.nbytes, scenario.start)
    return finish, accounts.busy
