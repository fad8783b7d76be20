"""The commands of ``wss trace`` that import, synthesise and export traces; `trace_inspect` has the others."""

# ruff: noqa: PLC0415
from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wss.cli.options import PATH, Bars, Group, free_trace, say
from wss.cli.trace_inspect import predict, show, stats

if TYPE_CHECKING:
    from wss.models import ModelShape
    from wss.traces.importers import Hints


MOST_LINES = 20  # lines printed per kind of message


@click.group(cls=Group)
def trace() -> None:
    """Import, synthesise and inspect routing traces."""


for command in (show, predict, stats):
    trace.add_command(command)


def _model(name: str | None, option: str = "--model ") -> ModelShape | None:
    from wss.config.models import model_of

    return model_of(name, option) if name is not None else None


@trace.command()
@click.option("--out", type=PATH, required=True, help="Folder for the files.")
@click.option("--model", help="A name of `wss list`, or of the model's folder  [default: all]")
@click.option("--benchmark", help="Benchmark, such as mmlu  [default: all]")
@click.option("--subject", help="Subject, such as anatomy  [default: all]")
@click.option("--count", type=click.IntRange(1), help="Requests per subject  [default: all]")
@click.option("--revision", default="main", show_default=True, help="Revision of the data set.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def fetch(out: Path, quiet: bool, **which: Any) -> None:
    """Download part of the paper's data set from the Hugging Face hub (extra `hf`); resumes if interrupted."""
    from wss.traces.fetch import fetch as fetch_files

    with closing(Bars(quiet)) as bars:
        found = fetch_files(out, on_file=lambda done, of: bars("fetching", done, of), **which)
    click.echo(f"{found} files are in {out}/; import them with `wss trace import {out} --out FILE`")


@trace.command("import")
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="The Parquet file to write.")
@click.option("--format", "kind", help="paper, sglang, vllm, logits, fingerprints, csv, jsonl  [default: detected]")
@click.option("--model", help="The model, if no folder names it: a name of `wss list`, or a config.json.")
@click.option("--experts", type=click.IntRange(1, 32767), help="Experts per layer, for a model without a preset.")
@click.option("--top-k", type=click.IntRange(1, 32767), help="Experts per token (logits, sglang).")
@click.option("--moe-layers", help="Indices of the MoE layers, such as 3-60 or 1,3,5, for a model without a preset.")
@click.option(
    "--zero-experts", type=click.IntRange(0, 32767), help="Experts without weights, with ids from --experts on."
)
@click.option(
    "--score",
    type=click.Choice(["softmax", "sigmoid"]),
    help="Router's score function (logits)  [default: the model's]",
)
@click.option("--groups", type=click.IntRange(1, 4096), help="Groups of experts of the router (logits).")
@click.option("--topk-groups", type=click.IntRange(1, 4096), help="Number of groups that a token may use (logits).")
@click.option("--bias", type=PATH, help="The router's correction bias, [layers, experts] (logits).")
@click.option("--lengths", help="Tokens of each sequence of a batch without padding, such as 7,5 (logits).")
@click.option("--drop-warmup", is_flag=True, help="Leave out equal rows at the beginning of a route log (jsonl).")
@click.option("--skip-bad", is_flag=True, help="Skip unreadable files; they are named and counted.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes  [default: one per core]")
@click.option("--force", is_flag=True, help="Replace the file --out if it exists.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def import_(
    source: Path,
    out: Path,
    kind: str | None,
    skip_bad: bool,
    workers: int | None,
    force: bool,
    quiet: bool,
    **said: Any,
) -> None:
    """Import SOURCE, a file or folder of recorded routing; resumes if interrupted."""
    from wss.errors import TraceError
    from wss.traces import TraceReader
    from wss.traces.importers import open_source
    from wss.traces.importers.pipeline import import_source
    from wss.traces.load_importing import import_loads, refuse_layout
    from wss.traces.load_parquet import write_loads
    from wss.traces.loads import looks_like_loads

    free_trace(out, force)
    hints = _hints(**said)
    if kind is None and source.is_file() and looks_like_loads(source):
        dumps, notes = import_loads(source, hints)
        write_loads(out, dumps)
        _report(tuple(notes), "warning")
        click.echo(f"wrote {out}: expert loads, not tokens; see them with `wss trace stats`")
        return
    try:
        opened = open_source(source, kind, hints)
    except TraceError:
        refuse_layout(source)
        raise
    with closing(Bars(quiet)) as bars:
        done = import_source(
            out,
            opened,
            workers=workers or os.cpu_count() or 1,
            skip_bad=skip_bad,
            on_files=lambda count: bars("importing", count, len(opened.files)),
        )
    for what, lines in (("skipped", done.skipped), ("left out", done.left_out), ("warning", done.warnings)):
        _report(lines, what)
    extra = f"; {len(done.skipped)} bad files skipped" if done.skipped else ""
    extra += f"; {done.resumed} files had been read before" if done.resumed else ""
    say(f"wrote {out}: {done.requests} requests of {opened.meta.model}{extra}")
    with TraceReader(out) as reader:
        meta = reader.meta
    say(f"{len(meta.moe_layers)} MoE layers, {meta.num_experts} experts, top-{meta.top_k}; {meta.note}")


def _hints(*, model: str | None, experts: int | None, moe_layers: str | None, **said: Any) -> Hints:
    """Return the user's hints on a recording."""
    from wss.traces.importers import Hints, RouterHints

    own = {key: said.pop(key) for key in ("top_k", "zero_experts", "drop_warmup")}
    router = RouterHints(lengths=_lengths(said.pop("lengths")), **said)
    return Hints(model=_model(model), num_experts=experts, moe_layers=_layers(moe_layers), router=router, **own)


def _report(lines: tuple[str, ...], what: str) -> None:
    """Print *lines*, at most `MOST_LINES` of them."""
    for line in lines[:MOST_LINES]:
        say(f"{what}: {line}", err=True)
    if len(lines) > MOST_LINES:
        click.echo(f"{what}: and {len(lines) - MOST_LINES} more", err=True)


def _lengths(text: str | None) -> tuple[int, ...] | None:
    """Read numbers of tokens such as ``7,5``."""
    from wss.errors import ConfigError

    if text is None:
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isascii() and piece.isdigit() and len(piece) < 10 and int(piece) > 0 for piece in pieces):
        raise ConfigError(f"--lengths {text}: is not a list of lengths; write the tokens of each sequence, such as 7,5")
    return tuple(map(int, pieces))


def _layers(text: str | None) -> tuple[int, ...] | None:
    """Read layer numbers such as ``3-60`` or ``1,3,5``."""
    from wss.errors import ConfigError
    from wss.models.layers import layer_numbers

    if text is None:
        return None
    try:
        return layer_numbers(text)
    except ValueError as error:
        raise ConfigError(f"--moe-layers {text}: {error}") from None


@trace.command()
@click.argument("model")
@click.option("--out", type=PATH, required=True, help="The Parquet file to write.")
@click.option("--preset", help="Parameters by a name of `wss list`  [default: those of MODEL, if any]")
@click.option("--like", type=PATH, help="A recorded trace to fit the parameters to.")
@click.option("--requests", type=click.IntRange(1, 10**6), help="How many requests  [default: the preset's, or 4096]")
@click.option(
    "--decode-tokens", type=click.IntRange(1, 10**5), help="Decode tokens of each request  [default: the preset's]"
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one parameter, such as skew=1.2.")
@click.option("--force", is_flag=True, help="Replace the file --out if it exists.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def synth(
    model: str, out: Path, preset: str | None, like: Path | None, settings: tuple[str, ...], seed: int, **more: Any
) -> None:
    """Synthesise a trace of MODEL, a name of `wss list` or the path of a config.json or a YAML file with a model.

    The trace is labelled synthetic.
    """
    from wss.config import load_synth
    from wss.host_memory import check_room
    from wss.traces import write_trace
    from wss.traces.synthetic.spec import bytes_of, num_requests, synth_meta, synthesise

    free_trace(out, more["force"])
    shape = _model(model, "")
    assert shape is not None
    sizes = {key: more[key] for key in ("requests", "decode_tokens")}
    given = [f"{key}={value}" for key, value in sizes.items() if value is not None]
    _check_options(sizes, settings, preset, like)
    bars = Bars(more["quiet"])
    spec = load_synth(_parameters(preset, model, fitted=like is not None), (*settings, *given))
    if like is not None:
        spec = _like(like, shape, seed, bars, spec, {*(key.partition("=")[0] for key in (*settings, *given))})
    check_room("the trace", bytes_of(spec, shape, 0, spec.decode_tokens))
    done = 0

    def on_request(_: Any) -> None:
        nonlocal done
        done += 1
        bars("making the trace", done, num_requests(spec))

    with closing(bars):
        meta = synth_meta(spec, shape, seed, None, like.name if like is not None else "")
        count = write_trace(out, meta, synthesise(spec, shape, seed), on_request=on_request)
    say(f"wrote {out}: {count} SYNTHETIC requests of {shape.name}")
    if spec.drift_at > spec.decode_tokens:
        said = f"drift_at is {spec.drift_at}, and decode ends with step {spec.decode_tokens}: nothing drifts"
        click.echo(f"note: {said}", err=True)


def _check_options(
    sizes: dict[str, int | None], settings: tuple[str, ...], preset: str | None, like: Path | None
) -> None:
    """Raise ConfigError if one option of `synth` would override another."""
    from wss.errors import ConfigError

    if like is not None and preset is not None:
        raise ConfigError(f"--preset {preset}: the parameters are fitted to {like}; give --preset or --like")
    for setting in settings:
        key, _, value = setting.partition("=")
        option = sizes.get(key.strip())
        if option is not None and value.strip() != str(option):
            name = f"--{key.strip().replace('_', '-')} {option}"
            raise ConfigError(f"--set {setting}: contradicts {name}; give one of the two")


def _parameters(preset: str | None, model: str, *, fitted: bool) -> str:
    """Return the preset that a synthetic trace starts from; with *fitted*, any preset, as its values are replaced."""
    from wss.errors import ConfigError
    from wss.traces.synthetic.spec import SYNTHS

    if preset is None and model not in SYNTHS and not fitted:
        known = ", ".join(sorted(SYNTHS))
        raise ConfigError(f"{model}: a model without parameters of its own; give --preset ({known}) or --like FILE")
    return preset or (model if model in SYNTHS else next(iter(SYNTHS)))


def _like(like: Path, shape: ModelShape, seed: int, bars: Bars, given: Any, keep: set[str]) -> Any:
    """Return parameters fitted to the trace *like*, except those named in *keep*, which are taken from *given*."""
    from dataclasses import replace

    from wss.errors import TraceError
    from wss.traces import TraceReader
    from wss.traces.analysis.counts import count_trace
    from wss.traces.analysis.fit import fit_to_counts

    with TraceReader(like) as reader:
        meta = reader.meta
        if (meta.num_choices, meta.top_k) != (shape.num_choices, shape.top_k):
            ours = f"{shape.num_choices} experts, top-{shape.top_k}"
            raise TraceError(
                f"{like}: has {meta.num_experts} experts, top-{meta.top_k}; {shape.name} has {ours}; give a like model"
            )
        counts = count_trace(meta, reader.requests(), reader.subjects())
    with closing(bars):
        fitted = fit_to_counts(counts, shape, seed=seed, on_step=lambda done, of: bars("fitting", done, of))
    fitted = replace(fitted, **{key: getattr(given, key) for key in keep})
    chosen = {key: value for key, value in vars(fitted).items() if key != "curve"}
    click.echo(f"fitted to {like}: " + ", ".join(f"{key}={value}" for key, value in chosen.items()), err=True)
    click.echo("curve: " + ", ".join(map(str, fitted.curve)), err=True)
    return fitted


@trace.command()
@click.argument("file", type=PATH)
@click.option("--format", "kind", type=click.Choice(["hf-json"]), required=True, help="The paper's JSON data set.")
@click.option("--out", type=PATH, required=True, help="A new folder.")
def export(file: Path, kind: str, out: Path) -> None:
    """Write the trace FILE as the files of the paper's data set."""
    from wss.traces import TraceReader
    from wss.traces.export import export_paper_json

    with TraceReader(file) as reader:
        count = export_paper_json(reader, out)
    click.echo(f"wrote {out}/: {count} files")
