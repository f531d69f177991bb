"""What a training run is about: one symbol on one timeframe.

Belongs here: these partitions, and how they become known to an instance. Does not belong here: days (`defs.scope`).
"""

from collections.abc import Iterable

import dagster as dg

SYMBOLS = dg.DynamicPartitionsDefinition(name="traded_symbols")
"""Only the database knows which symbols there are; the nightly schedule adds new ones."""
TIMEFRAMES = dg.StaticPartitionsDefinition(["5m", "15m", "1h", "4h"])
MODELS = dg.MultiPartitionsDefinition({"symbol": SYMBOLS, "timeframe": TIMEFRAMES})


def partition_key(symbol: str, timeframe: str) -> str:
    """Name of the partition of one symbol and timeframe."""
    return dg.MultiPartitionKey({"symbol": symbol, "timeframe": timeframe})


def split_partition_key(key: str) -> tuple[tuple[str, ...], str]:
    """The symbol, as the only one of a sequence, and the timeframe of a partition."""
    dimensions = MODELS.get_partition_key_from_str(key).keys_by_dimension
    return (dimensions["symbol"],), dimensions["timeframe"]


def add_symbols(instance: dg.DagsterInstance, symbols: Iterable[str]) -> None:
    """Make partitions of symbols that the instance does not know yet."""
    instance.add_dynamic_partitions(str(SYMBOLS.name), list(symbols))
