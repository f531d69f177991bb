"""Market data that somebody has downloaded: candles and funding in the layouts that people really have.

`layout` says which file belongs to which series, `files` reads one file, `source` serves the series.
"""

from trading_pipelines.adapters.sources.archive.layout import exchanges_in
from trading_pipelines.adapters.sources.archive.source import ArchiveSource

__all__ = ["ArchiveSource", "exchanges_in"]
