"""The command line: parse, call one function, print, exit.

Exit codes: 0 success, 1 a check failed, 2 bad input (one line per error on stderr), 128 + number when ended by a
signal. Data goes to stdout, everything else to stderr.
Slow imports are inside the commands that need them, so that ``--help`` is fast.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from wss import COMPILE_CACHE_NOTE, __version__
from wss.cli import dry_run as dry
from wss.cli.advise import advise
from wss.cli.compare import compare
from wss.cli.kernels import gemm, kernels
from wss.cli.options import PATH, Bars, Group, allow_code, announce_compiling, say
from wss.cli.placement import placement
from wss.cli.sweep import check, report, sweep
from wss.cli.trace import trace
from wss.cli.trace_merge import join
from wss.errors import OldSpellingWarning, OutputError, WssError, did_you_mean
from wss.escaping import for_terminal
from wss.files import json_text

_SHOW_WARNING = warnings.showwarning
NUMBA_SETTINGS = ".numba_config.yaml"  # read from the current folder, so it may be anyone's


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wss")
def cli() -> None:
    """Simulate wafer-scale GPU serving of Mixture-of-Experts LLMs."""


trace.add_command(join)
for command in (trace, sweep, check, compare, report, placement, advise, kernels, gemm):
    cli.add_command(command)


@cli.command(short_help="Compare policies on one wafer, model and trace.")
@click.argument("config", type=PATH)
@allow_code
@click.option("--out", type=PATH, help="Result folder  [default: a new number under results/]")
@click.option("--force", is_flag=True, help="Replace the result folder --out if it exists.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, such as batch=1024 or wafer.link.bandwidth=2x.",
)
@click.option("--quiet", is_flag=True, help="Print no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout and nothing else.")
@click.option("--wide", is_flag=True, help="Print all columns of the table.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, as a configuration, and run nothing.")
def run(
    config: Path,
    allow_code: bool,
    out: Path | None,
    force: bool,
    settings: tuple[str, ...],
    quiet: bool,
    **printed: bool,
) -> None:
    """Compare the policies of CONFIG, a YAML file or a name of `wss list`, on one wafer, model and trace."""
    from wss.config import load
    from wss.errors import ConfigError
    from wss.execution import run as run_experiment
    from wss.report import check_free, to_json

    as_json, wide, dry_run = (printed[name] for name in ("as_json", "wide", "dry_run"))
    if as_json and wide:
        raise ConfigError("--wide: is for the table, and --json prints none; give one of the two")
    experiment = load(config, settings, allow_code=allow_code)
    check_free(out, force)
    if dry_run:
        dry.check_no_table(wide)
        dry.dry_run(experiment, as_json)
        return
    announce_compiling(quiet)
    with closing(Bars(quiet)) as bars:
        result = run_experiment(experiment, bars)
    folder = result.write(out, force=force)
    text = to_json(result.to_dict()) if as_json else result.table(wide)
    if not as_json:
        text += f"\n\nwrote {folder}/: summary.json, layers.parquet, links.parquet\n"
    try:
        click.echo(text, nl=False)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout: cannot be written ({error.strerror}); the result is in {folder}/") from None


@cli.command(short_help="Simulate given transfers over one network.")
@click.argument("scenario", type=PATH)
@click.option("--network", type=click.Choice(["fluid", "packet", "circuit"]), default="fluid", show_default=True)
@click.option("--chunk", default="1MiB", show_default=True, help="Bytes of a chunk (packet): 1MB is 10^6, 1MiB 2^20.")
@click.option(
    "--window", type=click.IntRange(1, 10**6), help="Chunks of a flow in flight (packet)  [default: no limit]"
)
@click.option(
    "--duplex", type=click.Choice(["full", "half"]), default="full", show_default=True, help="Of links (circuit)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def flows(scenario: Path, network: str, chunk: str, window: int | None, duplex: str, as_json: bool) -> None:
    """Simulate the transfers of SCENARIO, a JSON file, over one network; report finish times and bytes per link."""
    from wss.config import quantity
    from wss.execution.transfers import read_scenario, run_flows
    from wss.report.transfers import flows_text

    nbytes = quantity("--chunk", chunk, "size")
    result = run_flows(read_scenario(scenario), network, nbytes, window or 0, duplex)
    say(json_text(result, sort_keys=False) if as_json else flows_text(result))


@cli.command("list", short_help="List configurations, presets, policies and plug-ins.")
@click.argument("section", required=False)
@click.option("--long", is_flag=True, help="Also print the sources of models and wafers.")
def list_(section: str | None, long: bool) -> None:
    """List configurations, presets, policies and plug-ins by name, or one SECTION, such as policies, in full."""
    from wss.config import plugins, shipped
    from wss.errors import ConfigError
    from wss.report.catalogue import sections

    every: dict[str, Callable[[bool], str]] = {
        "configurations": lambda long: shipped.listed(),
        **sections(),
        "plug-ins": lambda long: plugins.listed(),
    }
    if section is not None and section not in every:
        raise ConfigError(f"list: has no section '{section}'; {did_you_mean(section, every)}")
    shown = every if section is None else {section: every[section]}
    say("\n\n".join(text(long or section is not None) for text in shown.values()))


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from wss.config import json_schema

    click.echo(json_text(json_schema(), sort_keys=False))


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print the warnings of wss as notes, and pass others to Python."""
    if issubclass(category, OldSpellingWarning):
        say(f"note: {message}", err=True)
    else:
        _SHOW_WARNING(message, category, *where, **more)


def main() -> None:
    """Run the command line; user errors exit with code 2 and one line per error, never with a traceback."""
    os.environ["PYTHONSAFEPATH"] = "1"  # workers inherit it and import nothing from the current folder at startup
    for stream in (sys.stdout, sys.stderr):  # the terminal's encoding may lack a character, such as ±
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream.errors == "strict" else stream.errors)
    warnings.showwarning = _show_warning
    if COMPILE_CACHE_NOTE is not None:
        say(f"note: {COMPILE_CACHE_NOTE}", err=True)
    code = 2
    try:
        if os.path.lexists(NUMBA_SETTINGS):
            raise OutputError(f"{NUMBA_SETTINGS}: numba would take its settings from here; run wss in another folder")
        ended = cli.main(prog_name="wss", standalone_mode=False)
        code = ended if isinstance(ended, int) else 0
    except WssError as error:
        for fault in error.faults:
            say(for_terminal(fault), err=True)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.ClickException as error:
        hint = f" {error.ctx.command_path}:" if isinstance(error, click.UsageError) and error.ctx else ""
        what = " ".join(error.format_message().split())
        say(f"{hint.strip() or 'wss:'} {what}", err=True)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing is half-written", err=True)
        code = 130
    except BrokenPipeError:  # the reader of our output has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except MemoryError:
        click.echo("wss: there is not enough memory; reduce the experiment, such as its batch", err=True)
    except OSError as error:  # such as a full disk under numba's cache
        what = f"{error.filename or 'wss'}: {error.strerror or error}"
        click.echo(f"{what}; free disk space, or fix the path, and run again", err=True)
    sys.exit(code)
