"""The benchmark's strategy in freqtrade, run by the interpreter that freqtrade is installed in; prints one JSON object.

`freqtrade_worker.py FOLDER REPEAT` reads feather files as freqtrade stores them. Nothing is fetched: the markets that
freqtrade asks an exchange for are those of the files. Leverage tiers come with freqtrade.
"""

import json
import logging
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import freqtrade
import talib
from freqtrade.enums import CandleType, RunMode
from freqtrade.exchange.binance import Binance
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.optimize.optimize_reports import generate_backtest_stats
from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy, stoploss_from_absolute
from pandas import DataFrame

TAKER_FEE, SLIPPAGE, LEVERAGE = 0.00055, 0.0005, 5.0
STOP_ATR, TARGET_ATR, WEIGHTS, TRAIL_ATR = 1.0, (2.0, 3.5, 6.0), (0.3, 0.4, 0.3), 1.5
RISK, CAPITAL = 0.01, 10_000.0


class Ladder(IStrategy):
    """EMA cross with an ATR stop, three partial exits, break-even and trailing after the first.

    freqtrade's hooks see the open of a candle, so partial exits happen there and not at their level.
    """

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = True
    startup_candle_count = 320
    minimal_roi: ClassVar[dict[str, float]] = {}
    stoploss = -0.99
    use_custom_stoploss = True
    position_adjustment_enable = True
    max_entry_position_adjustment = 0
    use_exit_signal = True

    def bot_start(self, **kwargs: Any) -> None:
        """Forget the trades of an earlier run."""
        self._known: dict[tuple[str, datetime], float] = {}

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Compute both averages and the ATR."""
        dataframe["fast"] = talib.EMA(dataframe["close"], 20)
        dataframe["slow"] = talib.EMA(dataframe["close"], 80)
        dataframe["atr"] = talib.ATR(dataframe["high"], dataframe["low"], dataframe["close"], 14)
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Enter where the averages cross."""
        above = dataframe["fast"] > dataframe["slow"]
        before = above.shift(1, fill_value=False)
        dataframe.loc[above & ~before, "enter_long"] = 1
        dataframe.loc[~above & before, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Leave where they cross the other way."""
        above = dataframe["fast"] > dataframe["slow"]
        before = above.shift(1, fill_value=False)
        dataframe.loc[~above & before, "exit_long"] = 1
        dataframe.loc[above & ~before, "exit_short"] = 1
        return dataframe

    def leverage(self, *args: Any, **kwargs: Any) -> float:
        """The same for every trade."""
        return LEVERAGE

    def custom_stake_amount(
        self, pair: str, current_time: datetime, current_rate: float, proposed_stake: float, *args: Any, **kwargs: Any
    ) -> float:
        """Risk one percent at the distance of the stop."""
        atr = float(self.dp.get_analyzed_dataframe(pair, self.timeframe)[0]["atr"].iloc[-1])
        margin = RISK * CAPITAL / (STOP_ATR * atr / current_rate + 2 * (TAKER_FEE + SLIPPAGE)) / LEVERAGE
        return min(margin, 0.2 * CAPITAL)

    def custom_stoploss(
        self, pair: str, trade: Trade, current_time: datetime, current_rate: float, current_profit: float, **kwargs: Any
    ) -> float | None:
        """The stop of the set-up; after the first target the better of break-even and trail."""
        sign, atr = (-1 if trade.is_short else 1), self._atr(trade)
        level = trade.open_rate - sign * STOP_ATR * atr
        if trade.nr_of_successful_exits:
            even = trade.open_rate * (1 + sign * 2 * (TAKER_FEE + SLIPPAGE))
            trail = current_rate - sign * TRAIL_ATR * atr
            level = sign * max(sign * level, sign * even, sign * trail)
        return stoploss_from_absolute(level, current_rate, is_short=trade.is_short, leverage=trade.leverage)

    def adjust_trade_position(
        self, trade: Trade, current_time: datetime, current_rate: float, *args: Any, **kwargs: Any
    ) -> float | None:
        """Close the next part once its target has been reached."""
        done, sign = trade.nr_of_successful_exits, -1 if trade.is_short else 1
        if done > 2 or trade.has_open_orders:
            return None
        if sign * (current_rate - trade.open_rate) < TARGET_ATR[done] * self._atr(trade):
            return None
        return -trade.stake_amount * WEIGHTS[done] / sum(WEIGHTS[done:])

    def _atr(self, trade: Trade) -> float:
        """The ATR of the candle that gave the signal, remembered per trade."""
        key = trade.pair, trade.open_date
        if key not in self._known:
            frame = self.dp.get_analyzed_dataframe(trade.pair, self.timeframe)[0]
            self._known[key] = float(frame["atr"].iloc[-1])
        return self._known[key]


class Offline(Binance):
    """Binance without its network: the markets are those of the configuration."""

    def reload_markets(self, force: bool = False, *, load_leverage_tiers: bool = True) -> None:
        """Take the markets of the files for those of the exchange."""
        self._markets = {pair: _market(pair) for pair in self._config["exchange"]["pair_whitelist"]}
        for api in (self._api, self._api_async):
            api.set_markets(list(self._markets.values()))


def _market(pair: str) -> dict[str, Any]:
    base = pair.partition("/")[0]
    return {
        "id": f"{base}USDT",
        "symbol": pair,
        "base": base,
        "quote": "USDT",
        "settle": "USDT",
        "type": "swap",
        "spot": False,
        "margin": False,
        "swap": True,
        "future": False,
        "option": False,
        "contract": True,
        "linear": True,
        "inverse": False,
        "active": True,
        "contractSize": 1.0,
        "taker": TAKER_FEE,
        "maker": TAKER_FEE,
        "precision": {"amount": 1e-6, "price": 1e-8},
        "limits": {name: {"min": None, "max": None} for name in ("amount", "cost", "price", "leverage")},
        "info": {},
    }


def main() -> None:
    """Load once, then run as often as asked."""
    folder, repeat = Path(sys.argv[1]), int(sys.argv[2])
    logging.disable(logging.WARNING)
    pairs = sorted(_pair(file.name) for file in (folder / "futures").glob("*-5m-futures.feather"))
    config = _config(folder, pairs)
    exchange = Offline(config, load_leverage_tiers=True)
    backtesting = Backtesting(config, exchange)
    (strategy,) = backtesting.strategylist
    data, timerange = backtesting.load_bt_data()
    seconds, trades, exits = list[float](), 0, 0
    for _ in range(repeat):
        started = time.perf_counter()
        first, last = backtesting.backtest_one_strategy(strategy, data, timerange)
        generate_backtest_stats(data, backtesting.all_bt_content, min_date=first, max_date=last)
        seconds.append(time.perf_counter() - started)
        results = backtesting.all_bt_content[strategy.get_strategy_name()]["results"]
        trades, exits = len(results), int(sum(len(orders) - 1 for orders in results["orders"]))
    report = {
        "version": freqtrade.__version__,
        "symbol_bars": int(sum(len(frame) for frame in data.values())),
        "seconds": seconds,
        "trades": trades,
        "exits": exits,
    }
    sys.stdout.write(json.dumps(report) + "\n")


def _pair(file: str) -> str:
    base, quote, settle = file.partition("-")[0].split("_")
    return f"{base}/{quote}:{settle}"


def _config(folder: Path, pairs: list[str]) -> dict[str, Any]:
    pricing = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
    return {
        "runmode": RunMode.BACKTEST,
        "dry_run": True,
        "dry_run_wallet": CAPITAL,
        "stake_currency": "USDT",
        "stake_amount": 500,
        "tradable_balance_ratio": 0.99,
        "max_open_trades": 5,
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "candle_type_def": CandleType.FUTURES,
        "timeframe": "5m",
        "timerange": None,
        "fee": TAKER_FEE + SLIPPAGE,
        "datadir": folder,
        "user_data_dir": folder,
        "dataformat_ohlcv": "feather",
        "dataformat_trades": "feather",
        "exchange": {"name": "binance", "pair_whitelist": pairs, "pair_blacklist": [], "key": "", "secret": ""},
        "pairlists": [{"method": "StaticPairList"}],
        "entry_pricing": pricing,
        "exit_pricing": pricing,
        "order_types": {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False},
        "strategy": "Ladder",
        "strategy_path": str(Path(__file__).parent),
        "export": "none",
        "internals": {},
    }


if __name__ == "__main__":
    main()
