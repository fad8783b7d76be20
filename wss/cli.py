"""The command line: parse, call one function, print, exit.

Exit codes: 0 done, 2 bad input (one line a fault on stderr), 130 interrupted. Data goes to stdout, the rest to stderr.
Imports that cost time stand inside the commands that need them, so that ``--help`` is quick.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wss import __version__
from wss.errors import OutputError, WssError, did_you_mean

if TYPE_CHECKING:
    from wss.models import ModelShape


class _Group(click.Group):
    """A group that suggests the closest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command '{args[0]}'; {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class _Bars:
    """Progress bars on a terminal: one for each kind of long work, in turn; silent elsewhere or with --quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._quiet:
            return
        if what != self._what:
            from tqdm import tqdm

            self.close()
            self._what, self._bar = what, tqdm(total=total, desc=what, leave=False, disable=None)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._what = None, ""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C for the moment that it takes to write results, so that what it says of them is true."""
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        click.echo("interrupted as the result was being written; it is whole", err=True)
        sys.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wss")
def cli() -> None:
    """Simulate wafer-scale GPU serving of Mixture-of-Experts LLMs."""


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Result folder  [default: a new number under results/]")
@click.option("--force", is_flag=True, help="Replace the result folder --out if it exists.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting, such as batch=1024.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout and nothing else.")
def run(config: Path, out: Path | None, force: bool, settings: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Compare the policies of CONFIG, a YAML file, on one wafer, model and trace."""
    from wss.config import load
    from wss.report import check_free, run_table, to_json, write_results
    from wss.run import run as run_experiment

    experiment = load(config, settings)
    check_free(out, force)
    bars = _Bars(quiet)
    try:
        result = run_experiment(experiment, bars)
    finally:
        bars.close()
    with _uninterrupted():
        folder = write_results(out, result.summary, result.ledgers, result.wafer, force)
    text = to_json(result.summary) if as_json else run_table(result.summary, [p.name for p in experiment.policies])
    if not as_json:
        text += f"\n\nwrote {folder}/: summary.json, kernels.parquet, links.parquet\n"
    try:
        click.echo(text, nl=False)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout: cannot be written ({error.strerror}); the result is in {folder}/") from None


@cli.group(cls=_Group)
def trace() -> None:
    """Bring routing traces in, make them up, and look into them."""


def _free(out: Path, force: bool) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give --out the name of a file")
    if os.path.lexists(out) and not force:
        raise OutputError(f"{out}: exists; give another --out, or --force to replace it")
    if os.path.lexists(out) and (out.is_symlink() or not out.is_file()):
        raise OutputError(f"{out}: is not a plain file, --force does not replace it; give another --out")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: its folder does not exist; make it first, or give another --out")


def _model(name: str | None, option: str = "--model ") -> ModelShape | None:
    from wss.errors import ConfigError
    from wss.models import MODELS

    if name is not None and name not in MODELS:
        raise ConfigError(f"{option}{name}: is not a known model; {did_you_mean(name, MODELS)}")
    return MODELS[name] if name is not None else None


@trace.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
@click.option("--model", help="A name of `wss list`, or of the model's folder  [default: all]")
@click.option("--benchmark", help="Such as mmlu  [default: all]")
@click.option("--subject", help="Such as anatomy  [default: all]")
@click.option("--count", type=click.IntRange(1), help="Requests of each subject  [default: all]")
@click.option("--revision", default="main", show_default=True, help="Of the data set.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def fetch(
    out: Path,
    model: str | None,
    benchmark: str | None,
    subject: str | None,
    count: int | None,
    revision: str,
    quiet: bool,
) -> None:
    """Fetch part of the paper's data set from the Hugging Face hub (extra `hf`); goes on where it stopped."""
    from wss.traces.fetching import fetch as fetch_files

    bars = _Bars(quiet)
    try:
        found = fetch_files(
            out,
            model=model,
            benchmark=benchmark,
            subject=subject,
            count=count,
            revision=revision,
            on_file=lambda done, of: bars("fetching", done, of),
        )
    finally:
        bars.close()
    click.echo(f"{found} files are in {out}/; bring them in with `wss trace import {out} --out FILE`")


@trace.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Parquet file to write.")
@click.option("--format", "kind", help="paper, sglang, vllm, logits, fingerprints, csv, jsonl  [default: as it looks]")
@click.option("--model", help="Which model routed, where no folder says it (see `wss list`).")
@click.option("--experts", type=click.IntRange(1, 32767), help="Experts a layer, for a model without a preset.")
@click.option("--top-k", type=click.IntRange(1, 32767), help="Experts of a token (logits, sglang).")
@click.option("--moe-layers", help="Numbers of the MoE layers, such as 3-60 or 1,3,5, for a model without a preset.")
@click.option("--skip-bad", is_flag=True, help="Leave files out that cannot be read; they are named and counted.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes  [default: one a core]")
@click.option("--force", is_flag=True, help="Replace the file --out if it exists.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def import_(
    source: Path,
    out: Path,
    kind: str | None,
    model: str | None,
    experts: int | None,
    top_k: int | None,
    moe_layers: str | None,
    skip_bad: bool,
    workers: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Import SOURCE, a file or folder of recorded routing. Killed, it goes on where it stopped."""
    from wss.traces import TraceReader
    from wss.traces.importers import Hints, open_source
    from wss.traces.importing import import_source
    from wss.traces.loads import is_loads, read_loads, write_loads

    _free(out, force)
    if kind is None and source.is_file() and is_loads(source):
        write_loads(out, read_loads(source))
        click.echo(f"wrote {out}: expert loads, not tokens; see them with `wss trace stats`")
        return
    hints = Hints(model=_model(model), num_experts=experts, top_k=top_k, moe_layers=_layers(moe_layers))
    opened = open_source(source, kind, hints)
    bars = _Bars(quiet)
    try:
        done = import_source(
            out,
            opened,
            workers=workers or os.cpu_count() or 1,
            skip_bad=skip_bad,
            on_files=lambda count: bars("importing", count, len(opened.files)),
        )
    except KeyboardInterrupt:
        bars.close()
        click.echo("interrupted; the same command goes on from there", err=True)
        sys.exit(130)
    finally:
        bars.close()
    for fault in done.skipped:
        click.echo(f"skipped: {fault}", err=True)
    extra = f"; {len(done.skipped)} bad files skipped" if done.skipped else ""
    extra += f"; {done.resumed} files had been read before" if done.resumed else ""
    click.echo(f"wrote {out}: {done.requests} requests of {opened.meta.model}{extra}")
    with TraceReader(out) as reader:
        meta = reader.meta
    click.echo(f"{len(meta.moe_layers)} MoE layers, {meta.num_experts} experts, top-{meta.top_k}; {meta.note}")


def _layers(text: str | None) -> tuple[int, ...] | None:
    """Read layer numbers such as ``3-60`` or ``1,3,5``."""
    from wss.errors import ConfigError

    if text is None:
        return None
    layers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.strip().isascii() and end.strip().isdigit() and len(end.strip()) < 6 for end in ends):
            raise ConfigError(f"--moe-layers {text}: '{piece}' is not a layer; write such as 3-60 or 1,3,5")
        layers.extend(range(int(ends[0]), int(ends[1]) + 1))
    if not layers or sorted(set(layers)) != layers:
        raise ConfigError(f"--moe-layers {text}: is not ascending; list each layer once, lowest first")
    return tuple(layers)


@trace.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Parquet file to write.")
@click.option("--preset", help="Parameters by name  [default: those of MODEL]")
@click.option("--like", type=click.Path(path_type=Path), help="A recorded trace to fit the parameters to.")
@click.option("--requests", type=click.IntRange(1, 10**6), help="How many requests  [default: the preset's]")
@click.option("--decode-tokens", type=click.IntRange(1, 10**5), help="Of each request  [default: the preset's]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one parameter, such as skew=1.2.")
@click.option("--force", is_flag=True, help="Replace the file --out if it exists.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def synth(
    model: str,
    out: Path,
    preset: str | None,
    like: Path | None,
    requests: int | None,
    decode_tokens: int | None,
    seed: int,
    settings: tuple[str, ...],
    force: bool,
    quiet: bool,
) -> None:
    """Make up a trace of MODEL, a name of `wss list`; it is labelled synthetic."""
    from wss.config import load_synth
    from wss.traces import write_trace
    from wss.traces.synth import synth_meta, synthesise

    _free(out, force)
    shape = _model(model, "")
    assert shape is not None
    sizes = {"requests": requests, "decode_tokens": decode_tokens}
    given = [f"{key}={value}" for key, value in sizes.items() if value is not None]
    bars = _Bars(quiet)
    spec = load_synth(preset or model, (*settings, *given))
    if like is not None:
        spec = _like(like, shape, seed, bars, spec, {*(key.partition("=")[0] for key in (*settings, *given))})
    done = 0

    def on_request(_: Any) -> None:
        nonlocal done
        done += 1
        bars("making the trace", done, spec.requests)

    try:
        meta = synth_meta(spec, shape, seed, spec.requests, like.name if like is not None else "")
        count = write_trace(out, meta, synthesise(spec, shape, seed), on_request=on_request)
    finally:
        bars.close()
    click.echo(f"wrote {out}: {count} SYNTHETIC requests of {shape.name}")


def _like(like: Path, shape: ModelShape, seed: int, bars: _Bars, given: Any, keep: set[str]) -> Any:
    """Return parameters fitted to the trace *like*, but those of *given* that the user set."""
    from dataclasses import replace

    from wss.errors import TraceError
    from wss.traces import TraceReader
    from wss.traces.counting import count_trace
    from wss.traces.fitting import fit_to_counts

    with TraceReader(like) as reader:
        meta = reader.meta
        if (meta.num_experts, meta.top_k) != (shape.num_experts, shape.top_k):
            ours = f"{shape.num_experts} experts, top-{shape.top_k}"
            raise TraceError(
                f"{like}: has {meta.num_experts} experts, top-{meta.top_k}; {shape.name} has {ours}; give a like model"
            )
        counts = count_trace(meta, reader.requests(), reader.subjects())
    try:
        fitted = fit_to_counts(counts, shape, seed=seed, on_step=lambda done, of: bars("fitting", done, of))
    finally:
        bars.close()
    fitted = replace(fitted, **{key: getattr(given, key) for key in keep})
    chosen = {key: value for key, value in vars(fitted).items() if key != "curve"}
    click.echo(f"fitted to {like}: " + ", ".join(f"{key}={value}" for key, value in chosen.items()), err=True)
    click.echo("curve: " + ", ".join(map(str, fitted.curve)), err=True)
    return fitted


@trace.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Say what is in the trace FILE: metadata, sizes, and the most popular expert of each layer."""
    from wss.report.traces import describe, describe_text
    from wss.traces import TraceReader

    with TraceReader(file) as reader:
        found = describe(reader)
    click.echo(json.dumps(found, indent=1) if as_json else describe_text(found))


@trace.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of a layer's experts to keep.",
)
@click.option("--precision", type=click.Choice(["fp16", "fp8", "fp4"]), default="fp16", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(file: Path, budgets: tuple[float, ...], precision: Any, as_json: bool) -> None:
    """Say how well predictors tell the experts of the next decode token, cross-validated by request."""
    from wss.models import MODELS
    from wss.report.traces import prediction_text
    from wss.traces import TraceReader
    from wss.traces.predicting import evaluate

    with TraceReader(file) as reader:
        shape = next((m for m in MODELS.values() if m.name == reader.meta.model), None)
        nbytes = shape.expert_bytes(precision) if shape else None
        found = evaluate(reader.meta, reader.requests, budgets or (0.05, 0.1, 0.2, 0.4), nbytes)
    click.echo(json.dumps(found, indent=1) if as_json else prediction_text(found))


@trace.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["hf-json"]), required=True, help="The paper's JSON data set.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def export(file: Path, kind: str, out: Path) -> None:
    """Write the trace FILE as the files of the paper's data set."""
    from wss.traces import TraceReader
    from wss.traces.exporting import export_paper_json

    with TraceReader(file) as reader:
        count = export_paper_json(reader, out)
    click.echo(f"wrote {out}/: {count} files")


@trace.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the figures of every layer.")
@click.option("--layers", "per_layer", is_flag=True, help="Show the main figures of every layer.")
@click.option("--plot", type=click.Path(path_type=Path), help="A folder for pictures (extra `plot`).")
@click.option("--format", "kind", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of them.")
def stats(files: tuple[Path, ...], as_json: bool, per_layer: bool, plot: Path | None, kind: str) -> None:
    """Say how predictable and how skewed the routing of traces is; FILES may also be tables of expert loads."""
    from wss.report.stats import stats_text, trace_statistics

    found, counted = trace_statistics(files)
    if plot is not None:
        from wss.report.plots import write_plots

        for path, counts in counted:
            for picture in write_plots(counts, plot, path.stem, kind):
                click.echo(f"wrote {picture}", err=True)
    click.echo(json.dumps(found, indent=1) if as_json else stats_text(found, per_layer))


@cli.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--network", type=click.Choice(["fluid", "packet", "circuit"]), default="fluid", show_default=True)
@click.option("--chunk", default="1MiB", show_default=True, help="Bytes of a chunk (packet): 1MB is 10^6, 1MiB 2^20.")
@click.option(
    "--window", type=click.IntRange(1, 10**6), help="Chunks of a flow under way (packet)  [default: no limit]"
)
@click.option(
    "--duplex", type=click.Choice(["full", "half"]), default="full", show_default=True, help="Links (circuit)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def flows(scenario: Path, network: str, chunk: str, window: int | None, duplex: str, as_json: bool) -> None:
    """Run the transfers of SCENARIO, a JSON file, over one network: when each ends, and what each link carried."""
    from wss.config import quantity
    from wss.report.flows import flows_text
    from wss.run.flows import read_scenario, run_flows

    nbytes = quantity("--chunk", chunk, "size")
    result = run_flows(read_scenario(scenario), network, nbytes, window or 0, duplex)
    click.echo(json.dumps(result, indent=1) if as_json else flows_text(result))


@cli.command()
@click.argument("size", nargs=-1, type=click.IntRange(1, 10**9), metavar="[M N K]")
@click.option("--rows", type=click.Path(path_type=Path), help="A JSON file of measurements to predict.")
@click.option("--wafer", default="dojo", show_default=True, help="Whose die computes (see `wss list`).")
@click.option("--precision", type=click.Choice(["fp16", "fp8", "fp4"]), default="fp8", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gemm(size: tuple[int, ...], rows: Path | None, wafer: str, precision: Any, as_json: bool) -> None:
    """Predict the time of one GEMM, M x K by K x N, or of those in a file, by the H800 model."""
    from wss.errors import ConfigError
    from wss.hardware import WAFERS
    from wss.report.gemm import predict, predict_rows, read_rows, rows_text

    if wafer not in WAFERS:
        raise ConfigError(f"--wafer {wafer}: is not a known wafer; {did_you_mean(wafer, WAFERS)}")
    die = WAFERS[wafer].die
    if precision not in die.flops:
        raise ConfigError(f"--precision {precision}: the die has no such peak; it has {', '.join(sorted(die.flops))}")
    if (rows is None) == (not size) or len(size) not in (0, 3):
        raise ConfigError("gemm: give either M N K or --rows FILE, such as `wss gemm 128 7168 2048`")
    if rows is not None:
        found = predict_rows(read_rows(rows), die, precision)
        click.echo(json.dumps(found, indent=1) if as_json else rows_text(found))
        return
    m, n, k = size
    seconds = predict(m, n, k, die, precision)
    click.echo(json.dumps({"predicted_seconds": seconds}) if as_json else f"{1e6 * seconds:.2f} us")


@cli.command("list")
def list_() -> None:
    """List presets and policies by name, each with a line on what it is."""
    from wss.report.catalogue import catalogue

    click.echo(catalogue())


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from wss.config import json_schema

    click.echo(json.dumps(json_schema(), indent=1))


def _terminated(number: int, _: Any) -> None:
    """End as by Ctrl-C, so that what is half-written is removed."""
    raise SystemExit(128 + number)


def _let_numba_cache() -> None:
    """Give numba a place for compiled code where neither the package nor the home may be written to."""
    home = Path(os.path.expanduser("~"))
    package = Path(__file__).parent
    if not any(os.access(folder, os.W_OK) for folder in (package, home)):
        os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"wss-numba-{os.getuid()}"))


def main() -> None:
    """Run the command line; a user's mistake ends with code 2 and a line a fault, never with a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    _let_numba_cache()
    try:
        code = cli.main(prog_name="wss", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except WssError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        hint = f" {error.ctx.command_path}:" if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(f"{hint.strip() or 'wss:'} {error.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was written", err=True)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # such as a disk that fills up under numba's cache
        click.echo(
            f"{error.filename or 'wss'}: {error.strerror or error}; make room, or free the way, and run again", err=True
        )
        sys.exit(2)
