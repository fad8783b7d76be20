"""A recorded trace as a batch in the middle of serving: its requests are at different places of their decode.

A simulation that began with the first decode token of all requests at once would see them in step: many models begin
every answer with the same tokens, which have the same experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wss.rng import stream, uniform
from wss.traces import RequestRouting, TraceReader
from wss.traces.reader import write_trace


def write_running_batch(out: Path, trace: Path, batch: int, steps: int, seed: int) -> tuple[int, int]:
    """Write *batch* requests of *trace* that decode *steps* tokens each, from a random place of their decode on.

    A request is taken several times if there are fewer than *batch*; the places of its copies are evenly spread, and
    one that is shorter than *steps* is taken whole. Prefill is left out.

    Returns
    -------
    int, int
        How often each request is taken, and the largest number of decode tokens, at most *steps*; 0 and 0, and no
        file, if the trace has no decode.
    """
    with TraceReader(trace) as reader:
        count = sum(request.num_decode > 0 for request in reader.requests())
        if not count:
            return 0, 0
        copies, longest = -(-batch // count), 0

        def requests() -> Iterator[RequestRouting]:
            nonlocal longest
            number = 0
            for request in reader.requests():
                length = min(steps, request.num_decode)
                longest = max(longest, length)
                (chance,) = uniform(stream(seed, "advice", request.request), 1)
                for copy in range(copies if length else 0):
                    place = (chance + copy / copies) % 1.0
                    first = request.num_prefill + int(place * (request.num_decode - length + 1))
                    taken = slice(first, first + length)
                    yield RequestRouting(
                        request=number,
                        position=request.position[taken],
                        num_prefill=0,
                        experts=request.experts[taken],
                    )
                    number += 1

        write_trace(out, replace(reader.meta, requests=()), requests())
    return copies, longest
