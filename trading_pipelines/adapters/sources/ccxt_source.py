"""Real exchanges over REST, through the client library ccxt.

Whatever differs between venues ends here: market types, units of quantity, page sizes, clocks and failures. A
failure that may pass is retried, any other one is a `SourceError`; an answer that cannot be read is never taken
for an empty one.
"""

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ccxt
import pandas as pd
import structlog

from trading_pipelines.adapters.sources.base import (
    MARK_COLUMNS,
    OPEN_INTEREST_COLUMNS,
    CandlePage,
    SourceError,
    empty_frame,
)
from trading_pipelines.adapters.sources.limiter import SharedLimiter
from trading_pipelines.adapters.sources.retry import RetryPolicy, retry_after_seconds
from trading_pipelines.adapters.sources.venues import VENUES, Venue
from trading_pipelines.domain.market.candles import CANDLE_COLUMNS, TS_DTYPE
from trading_pipelines.domain.market.instrument import Instrument, Listing, ListingStatus, MarketKind
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe

_MILLISECOND = timedelta(milliseconds=1)
_CLOCK_CHECK = timedelta(minutes=10)
_MARKETS_CHECK = timedelta(minutes=15)
_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a parser raises on a payload that is not what it expects."""
T = TypeVar("T")
log = structlog.get_logger(__name__)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class CcxtSource:
    """One venue and market type of `VENUES`, without credentials."""

    name = "ccxt"

    def __init__(
        self,
        exchange: str,
        base_url: str | None = None,
        retry: RetryPolicy | None = None,
        clock: Callable[[], datetime] = _wall_clock,
        sleep: Callable[[float], None] = time.sleep,
        limits_folder: Path | None = None,
    ) -> None:
        """Build the client; nothing is asked yet.

        Parameters
        ----------
        base_url : str, optional
            Replaces scheme and host of every address.
        limits_folder : Path, optional
            Where processes share the exchange's rate limit; without it each keeps its own.
        """
        self.exchange = exchange
        self._venue = VENUES[exchange]
        self._retry = retry or RetryPolicy()
        self._clock = clock
        self._sleep = sleep
        self._client = _client(self._venue, base_url)
        self._limiter: SharedLimiter | None = None
        if limits_folder is not None:
            interval = float(self._client.rateLimit) / 1000
            self._limiter = SharedLimiter(limits_folder / self._venue.ccxt_id, interval, sleep=sleep)
            self._client.throttle = lambda cost=None: self._limiter and self._limiter.wait(cost or 1.0)
        self._offset = timedelta()
        self._offset_measured_at: datetime | None = None
        self._listed: dict[str, dict[str, Any]] = {}
        self._listed_at: datetime | None = None
        self._unusual_funding_hours: dict[str, int] | None = None

    def now(self) -> datetime:
        """The exchange's clock: our own may be wrong, and only theirs decides which bar is closed.

        The time the answer took counts as if the exchange had been late, so that no bar closes early.
        """
        local = self._clock()
        if self._offset_measured_at is None or local - self._offset_measured_at > _CLOCK_CHECK:
            theirs = self._call("the exchange's time", self._client.fetch_time)
            local = self._clock()
            self._offset, self._offset_measured_at = _moment(theirs) - local, local
        return local + self._offset

    def instruments(self) -> list[Instrument]:
        """Every active market that is quoted and settled in a currency of dollars or coins, by symbol."""
        return [self._instrument(symbol, market) for symbol, market in sorted(self.markets.items())]

    def listings(self) -> list[Listing]:
        """Every market that the exchange lists; a pair that has left may be missing."""
        return [
            Listing(
                self._instrument(symbol, market),
                ListingStatus.TRADING if market["active"] is not False else ListingStatus.HALTED,
                _moment(market["created"]) if market.get("created") else None,
            )
            for symbol, market in sorted(self._every_market().items())
        ]

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """Those of ours that the exchange serves."""
        return tuple(timeframe for timeframe in Timeframe if timeframe in self._client.timeframes)

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """One request per page, each for a fixed span of as many bars as the exchange returns at once.

        The newest bars may appear late: what follows the newest candle of the last page is not answered yet.
        """
        closed = timeframe.floor(self.now())
        end = min(end, closed)
        while start < end:
            stop = min(start + self._venue.candles_per_page * timeframe.delta, end)
            candles = self._candles(instrument, timeframe, start, stop)
            if stop < closed:
                yield CandlePage(start, stop, candles)
            elif not candles.empty:
                yield CandlePage(start, candles["ts"].max().to_pydatetime() + timeframe.delta, candles)
            start = stop

    def _candles(self, instrument: Instrument, timeframe: Timeframe, start: datetime, stop: datetime) -> pd.DataFrame:
        candles = pd.DataFrame(self._rows(instrument, timeframe, start, stop), columns=list(CANDLE_COLUMNS))
        candles["ts"] = pd.to_datetime(candles["ts"], unit="ms", utc=True).astype(TS_DTYPE)
        if self._venue.counts_contracts:
            candles["volume"] *= float(_contract_size(self._market(instrument)))
        return candles[(candles["ts"] >= start) & (candles["ts"] < stop)]

    def _rows(self, instrument: Instrument, timeframe: Timeframe, start: datetime, stop: datetime) -> list[list[Any]]:
        """Rows of at most a page; where some are repeated and others missing, they may have pushed each other out."""
        limit, name = self._venue.candles_per_page, self._market(instrument)["symbol"]
        rows = self._call(
            f"{timeframe} candles of {instrument.symbol}",
            lambda: self._client.fetch_ohlcv(
                name,
                timeframe.value,
                since=_epoch_ms(start),
                limit=limit,
                params={"until": _epoch_ms(stop) - 1},
            ),
        )
        bars, distinct = (stop - start) // timeframe.delta, len({row[0] for row in rows})
        if distinct == len(rows) or distinct >= bars or bars <= 1:
            return rows
        middle = start + bars // 2 * timeframe.delta
        return self._rows(instrument, timeframe, start, middle) + self._rows(instrument, timeframe, middle, stop)

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Settlements in [start, end), rounded to minutes, for exchanges stamp them some milliseconds late."""
        if self._venue.funding_per_page == 0:
            return _funding_frame([])
        if self._venue.funding_is_numbered:
            return _funding_frame(self._funding_pages(instrument, start, end))
        interval = timedelta(minutes=instrument.funding_interval_minutes or 60)
        rows: list[dict[str, Any]] = []
        while start < end:
            stop = min(start + self._venue.funding_per_page * interval, end)
            rows += self._funding(instrument, start, stop)
            start = stop
        return _funding_frame(rows)

    def _funding_pages(self, instrument: Instrument, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """Pages from the newest settlement back; one that settles meanwhile moves rows on to the next page only."""
        found: list[dict[str, Any]] = []
        name = self._market(instrument)["symbol"]
        for page in itertools.count(1):
            rows = self._call(
                f"funding of {instrument.symbol}",
                partial(
                    self._client.fetch_funding_rate_history,
                    name,
                    limit=self._venue.funding_per_page,
                    params={"page_num": page},
                ),
            )
            found += [row for row in rows if _epoch_ms(start) <= row["timestamp"] < _epoch_ms(end)]
            if len(rows) < self._venue.funding_per_page or rows[0]["timestamp"] < _epoch_ms(start):
                break
        return found

    def _funding(self, instrument: Instrument, start: datetime, stop: datetime) -> list[dict[str, Any]]:
        """Rates of a span; a full page may have been cut off at either end, so then each half is asked for."""
        limit, name = self._venue.funding_per_page, self._market(instrument)["symbol"]
        rows = self._call(
            f"funding of {instrument.symbol}",
            lambda: self._client.fetch_funding_rate_history(
                name,
                since=_epoch_ms(start),
                limit=limit,
                params={"until": _epoch_ms(stop) - 1},
            ),
        )
        if len(rows) < limit or stop - start <= timedelta(hours=1):
            return [row for row in rows if _epoch_ms(start) <= row["timestamp"] < _epoch_ms(stop)]
        middle = start + (stop - start) / 2
        return self._funding(instrument, start, middle) + self._funding(instrument, middle, stop)

    def open_interest(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Hourly values, as far back as the exchange keeps them."""
        if self._venue.open_interest_per_page == 0 or instrument.kind is not MarketKind.PERPETUAL:
            return empty_frame(OPEN_INTEREST_COLUMNS)
        now = self.now()
        if self._venue.open_interest_days is not None:
            start = max(start, now - timedelta(days=self._venue.open_interest_days))
        rows = self._hourly(
            f"open interest of {instrument.symbol}",
            self._venue.open_interest_per_page,
            (Timeframe.H1.floor(start), min(end, now)),
            partial(self._client.fetch_open_interest_history, self._market(instrument)["symbol"], "1h"),
        )
        columns = ([row["timestamp"], row["openInterestAmount"], row["openInterestValue"]] for row in rows)
        found = _hourly_frame(columns, OPEN_INTEREST_COLUMNS)
        return found[(found["ts"] >= start) & (found["ts"] < end)].reset_index(drop=True)

    def mark_prices(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Hours that have ended."""
        if instrument.kind is not MarketKind.PERPETUAL or not self._client.has["fetchMarkOHLCV"]:
            return empty_frame(MARK_COLUMNS)
        rows = self._hourly(
            f"mark prices of {instrument.symbol}",
            self._venue.mark_prices_per_page,
            (Timeframe.H1.floor(start), min(end, Timeframe.H1.floor(self.now()))),
            partial(self._client.fetch_mark_ohlcv, self._market(instrument)["symbol"], "1h"),
        )
        found = _hourly_frame((row[:5] for row in rows), MARK_COLUMNS)
        return found[(found["ts"] >= start) & (found["ts"] < end)].reset_index(drop=True)

    def _hourly(
        self, what: str, per_page: int, span: tuple[datetime, datetime], request: Callable[..., list[Any]]
    ) -> list[Any]:
        """Rows of every page of so many hours."""
        start, end = span
        rows: list[Any] = []
        while start < end:
            stop = min(start + per_page * Timeframe.H1.delta, end)
            page = partial(request, _epoch_ms(start), per_page, {"until": _epoch_ms(stop) - 1})
            rows += self._call(what, page)
            start = stop
        return rows

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """Newest quotes of all `symbols` in one request, or two where bids and asks come apart."""
        markets = self.markets
        ids = {markets[symbol]["symbol"]: symbol for symbol in symbols if symbol in markets}
        if not ids:
            return []
        quotes = self._call("tickers", lambda: self._client.fetch_tickers(list(ids)))
        if self._venue.quotes_apart:
            books = self._call("best bids and asks", lambda: self._client.fetch_bids_asks(list(ids)))
            for i, book in books.items():
                if i in quotes:
                    quotes[i] |= {"bid": book["bid"], "ask": book["ask"]}
        now = self.now()
        return [_ticker(ids[i], quote, now) for i, quote in quotes.items() if i in ids and quote.get("last")]

    @property
    def markets(self) -> dict[str, dict[str, Any]]:
        """The client's active markets by our symbol; contracts are settled in their quote currency."""
        return {symbol: market for symbol, market in self._every_market().items() if market["active"] is not False}

    def _every_market(self) -> dict[str, dict[str, Any]]:
        """Active and other markets, read anew from time to time: pairs come and go while a process lives.

        Of two with one symbol the active one counts. A list that was read before is better than none.
        """
        now = self._clock()
        if self._listed_at is None or now - self._listed_at > _MARKETS_CHECK:
            try:
                markets = self._call("the list of markets", lambda: self._client.load_markets(reload=True))
            except SourceError as error:
                if self._listed_at is None:
                    raise
                log.warning("the list of markets stays as it was", exchange=self.exchange, why=str(error))
            else:
                self._listed = {
                    f"{market['base']}{market['quote']}": market
                    for market in sorted(markets.values(), key=lambda market: market["active"] is not False)
                    if market["type"] == self._venue.market_type
                    and (market["spot"] or market["settle"] == market["quote"])
                }
                self._unusual_funding_hours = self._ask_for_funding_hours()
            self._listed_at = now
        return self._listed

    def _market(self, instrument: Instrument) -> dict[str, Any]:
        """The client's market, be it halted: what was traded can still be asked for."""
        market = self._every_market().get(instrument.symbol)
        if market is None:
            raise SourceError(f"{self.exchange} does not list {instrument.symbol}")
        return market

    def _instrument(self, symbol: str, market: dict[str, Any]) -> Instrument:
        unit = _contract_size(market)
        limits = market["limits"]
        leverage = (limits.get("leverage") or {}).get("max") if self._venue.kind is MarketKind.PERPETUAL else None
        return Instrument(
            self.exchange,
            symbol,
            market["base"],
            market["quote"],
            self._venue.kind,
            price_step=self._step(market["precision"]["price"]),
            quantity_step=self._step(market["precision"]["amount"]) * unit,
            min_quantity=_decimal(limits["amount"]["min"]) * unit,
            min_notional=_decimal(limits["cost"]["min"]),
            funding_interval_minutes=self._funding_interval(market),
            max_leverage=_decimal(leverage) if leverage else None,
        )

    def _funding_interval(self, market: Mapping[str, Any]) -> int | None:
        """Minutes between two settlements; None for spot and where the exchange does not say."""
        if self._venue.kind is not MarketKind.PERPETUAL:
            return None
        if self._venue.usual_funding_hours is None:
            stated = market["info"].get("fundingInterval")
            return int(stated) if stated else None
        unusual = self._unusual_funding_hours
        return None if unusual is None else 60 * unusual.get(market["symbol"], self._venue.usual_funding_hours)

    def _ask_for_funding_hours(self) -> dict[str, int] | None:
        """Hours between two settlements of the markets that differ from the others; None without an answer.

        Nothing else has to wait for this: what was settled shows the interval as well.
        """
        if self._venue.usual_funding_hours is None:
            return None

        def ask() -> dict[str, int]:
            rates = self._client.fetch_funding_intervals()
            return {name: int(rate["interval"].removesuffix("h")) for name, rate in rates.items()}

        try:
            return self._call("the intervals of funding", ask)
        except SourceError as error:
            log.warning("intervals of funding are not known", exchange=self.exchange, why=str(error))
            return None

    def _step(self, precision: Any) -> Decimal:
        if precision is not None and self._client.precisionMode == ccxt.DECIMAL_PLACES:
            return Decimal(1).scaleb(-int(precision))
        return _decimal(precision)

    def _call(self, what: str, request: Callable[[], T]) -> T:
        """Ask, and ask again while the failure may pass.

        Raises
        ------
        SourceError
            The exchange refused, kept failing, or sent what nobody can read.
        """
        delays = self._retry.delays()
        while True:
            self._client.last_json_response = self._client.last_response_headers = None
            try:
                answer = request()
                if self._client.last_json_response is None:
                    raise ccxt.ExchangeNotAvailable("the answer is not JSON")
                return answer
            except (ccxt.BaseError, *_UNREADABLE) as error:
                if not self._may_pass(error):
                    raise SourceError(f"{self.exchange} does not give {what}: {describe(error)}") from error
                self._pause(what, error, next(delays, None))

    def _may_pass(self, error: Exception) -> bool:
        """Whether the same question may be answered later; the client library does not know all of these codes."""
        answer = self._client.last_json_response
        code = str(answer.get("retCode", answer.get("code"))) if isinstance(answer, dict) else None
        return isinstance(error, ccxt.OperationFailed) or code in self._venue.passing_codes

    def _pause(self, what: str, error: Exception, delay: float | None) -> None:
        asked_for = retry_after_seconds(self._client.last_response_headers, self._clock())
        if delay is None or (asked_for or 0.0) > self._retry.max_retry_after_seconds:
            tries = f"after {self._retry.attempts} attempts" if delay is None else f"for the next {asked_for:.0f} s"
            why = "it is under maintenance, " if self._is_under_maintenance(error) else ""
            raise SourceError(f"{self.exchange} does not give {what} {tries}: {why}{describe(error)}") from error
        seconds = delay if asked_for is None else asked_for + delay
        if asked_for is not None and self._limiter is not None:
            self._limiter.rest(asked_for)
        log.info("asking again", exchange=self.exchange, what=what, seconds=round(seconds, 1), cause=describe(error))
        self._sleep(seconds)

    def _is_under_maintenance(self, error: Exception) -> bool:
        """What the exchange says about itself, if it still answers that question."""
        if isinstance(error, ccxt.OnMaintenance):
            return True
        with contextlib.suppress(ccxt.BaseError, *_UNREADABLE):
            return self._venue.tells_status and self._client.fetch_status()["status"] == "maintenance"
        return False


def _client(venue: Venue, base_url: str | None) -> Any:
    client = getattr(ccxt, venue.ccxt_id)({"enableRateLimit": True, "timeout": 10_000})
    if venue.loads:
        client.options["fetchMarkets"]["types"] = list(venue.loads)
    client.has["fetchCurrencies"] = False  # needs credentials, and nothing here is about currencies
    client.enableLastJsonResponse = True
    if base_url is not None:
        client.urls["api"] = _with_host(client.urls["api"], base_url.rstrip("/"))
    return client


def _with_host(address: Any, base_url: str) -> Any:
    if isinstance(address, dict):
        return {name: _with_host(part, base_url) for name, part in address.items()}
    return re.sub(r"^https?://[^/]+", base_url, address)


def _ticker(symbol: str, quote: Mapping[str, Any], now: datetime) -> Ticker:
    change = quote.get("percentage")
    return Ticker(
        symbol,
        _moment(quote["timestamp"]) if quote.get("timestamp") else now,
        float(quote["last"]),
        bid=quote.get("bid"),
        ask=quote.get("ask"),
        change_24h=None if change is None else change / 100,
        quote_volume_24h=quote.get("quoteVolume"),
    )


def _funding_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"ts": [row["timestamp"] for row in rows], "rate": [row["fundingRate"] for row in rows]}, dtype="float64"
    )
    frame["ts"] = pd.to_datetime(frame["ts"], unit="ms", utc=True).dt.round("min").astype(TS_DTYPE)
    return frame.dropna().drop_duplicates("ts", keep="last").sort_values("ts", ignore_index=True)


def _hourly_frame(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows that begin with epoch milliseconds; what the exchange left out is NaN, of repeated hours the last counts."""
    frame = pd.DataFrame(list(rows), columns=list(columns)).astype("float64")
    frame["ts"] = pd.to_datetime(frame["ts"], unit="ms", utc=True).astype(TS_DTYPE)
    return frame.drop_duplicates("ts", keep="last").sort_values("ts", ignore_index=True)


def _contract_size(market: Mapping[str, Any]) -> Decimal:
    """Base currency in one unit of quantity: venues may count contracts."""
    return _decimal(market.get("contractSize") or 1)


def _decimal(value: Any) -> Decimal:
    return Decimal(0) if value is None else Decimal(str(value))


def _epoch_ms(moment: datetime) -> int:
    return (moment - EPOCH) // _MILLISECOND


def _moment(epoch_ms: int) -> datetime:
    return EPOCH + epoch_ms * _MILLISECOND


def describe(error: BaseException) -> str:
    """Kind and first line; answers of exchanges can be whole pages."""
    first_line = str(error).strip().partition("\n")[0][:200]
    return f"{type(error).__name__} {first_line}".strip()
