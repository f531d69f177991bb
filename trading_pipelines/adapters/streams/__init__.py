"""Where quotes and trades come from as they happen: sockets of exchanges, or the simulated market."""

from trading_pipelines.adapters.streams.base import MarketStream, StreamDownError
from trading_pipelines.adapters.streams.factory import can_stream, check_stream, open_stream
from trading_pipelines.adapters.streams.intake import Intake

__all__ = ["Intake", "MarketStream", "StreamDownError", "can_stream", "check_stream", "open_stream"]
