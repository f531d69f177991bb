"""`trading up`, `service`, `stream`, `env` and `settings`: run the platform or a part of it, and what it runs with."""

import shlex
from typing import Annotated

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.cli.progress import progress_display


def up() -> None:
    """Run the whole platform until Ctrl-C: database, first fill, Dagster, dashboard, fast service."""
    from trading_pipelines.services import supervisor

    settings = prepare(stderr_level="WARNING")
    with progress_display() as display:

        def show(addresses: dict[str, str]) -> None:
            for name, address in addresses.items():
                typer.echo(f"{name:<10} {address}")
            typer.echo(f"logs       {settings.data_dir / 'logs'}\nCtrl-C stops everything.")

        supervisor.up(settings, lambda p: display.update(p.step, p.fraction, p.detail), show)


def service() -> None:
    """Run the fast service alone, in the foreground: prices, paper exchange, stops, heartbeats."""
    from trading_pipelines.services import trader

    trader.main()


def stream() -> None:
    """Run the collector alone, in the foreground: quotes and trades over the exchange's sockets."""
    from trading_pipelines.services import collector

    collector.main()


def env() -> None:
    """Print what Dagster's own commands need: eval "$(trading env)" and then dagster, dg."""
    from trading_pipelines.services.programs import platform_environment, prepare_dagster_home

    settings = prepare()
    prepare_dagster_home(settings)
    for name, value in platform_environment(settings).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that differ from their default.")] = False,
    word: Annotated[str, typer.Argument(help="Only those whose name or meaning contains it.")] = "",
    as_json: Json = False,
) -> None:
    """Show every setting in force with its meaning; secrets are masked."""
    from trading_pipelines.settings_listing import list_settings

    found = [
        line
        for line in list_settings(prepare())
        if (line.changed or not changed) and word.lower() in f"{line.variable} {line.meaning}".lower()
    ]
    if as_json:
        print_json({"settings": found})
        return
    rows = [(line.variable, line.value, "changed" if line.changed else "", line.meaning) for line in found]
    print_table("Settings", ("variable", "value", "", "meaning"), rows)
