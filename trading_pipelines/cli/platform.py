"""`trading up`, `trading service`, `trading stream`, `trading env`: run the platform, or a part of it."""

import shlex

import typer

from trading_pipelines.cli.context import prepare
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
