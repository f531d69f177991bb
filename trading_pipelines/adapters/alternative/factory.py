"""Which sources deliver a dataset, by the settings.

Belongs here: choosing and building them. Does not belong here: what they deliver. The simulated market has simulated
sources only: what is true of real coins says nothing of its own. An archive ends in the past and has none: what sources
say now was not known then.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from trading_pipelines.adapters.alternative.base import AlternativeSource
from trading_pipelines.adapters.http import HttpClient, HttpPolicy
from trading_pipelines.domain.alternative.series import coin_of
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.settings import OutsideSource, Settings, SourceName

Sources = tuple[AlternativeSource[Any], ...]
Builder = Callable[[Settings], Sources]


def datasets() -> tuple[str, ...]:
    """Names of all datasets; each is an asset."""
    return tuple(_SIMULATED)


def open_dataset(settings: Settings, dataset: str) -> Sources:
    """Build the sources of a dataset; those that are switched off are left out.

    A source that lacks its key is built, and says so when it is asked.
    """
    if settings.exchange == SIMULATED_EXCHANGE:
        return _SIMULATED[dataset](settings)
    return () if settings.source is SourceName.ARCHIVE else _OUTSIDE[dataset](settings)


def open_sources(settings: Settings) -> dict[str, Sources]:
    """Build all sources by dataset."""
    return {dataset: open_dataset(settings, dataset) for dataset in datasets()}


def _figures(dataset: str) -> Builder:
    def build(settings: Settings) -> Sources:
        from trading_pipelines.adapters.alternative.simulated.indices import SimulatedFigures

        return (SimulatedFigures(settings.simulation, dataset),)

    return build


def _texts(dataset: str) -> Builder:
    def build(settings: Settings) -> Sources:
        from trading_pipelines.adapters.alternative.simulated.texts import SimulatedTexts

        return (SimulatedTexts(settings.simulation, dataset, settings.alternative.texts),)

    return build


def _simulated_transactions(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.simulated.flows import SimulatedTransactions

    return (SimulatedTransactions(settings.simulation, settings.alternative.flows.thresholds),)


def _simulated_exchange_flows(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.simulated.flows import SimulatedExchangeFlows

    return (SimulatedExchangeFlows(settings.simulation),)


def _simulated_odds(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.simulated.odds import SimulatedPredictionMarkets

    return (SimulatedPredictionMarkets(settings.simulation),)


def _whale_transactions(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.whale_alert import WhaleAlert

    chosen = settings.alternative.whale_alert
    if not chosen.enabled:
        return ()
    return (
        WhaleAlert(
            _client(settings, "whale_alert", chosen, chosen.base_url),
            _secret(chosen.api_key),
            settings.alternative.flows.thresholds,
            timedelta(minutes=chosen.history_minutes),
            chosen.most_pages,
        ),
    )


def _exchange_flows(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.cryptoquant import CryptoQuant
    from trading_pipelines.adapters.alternative.dune import Dune

    quant, dune = settings.alternative.cryptoquant, settings.alternative.dune
    found: list[AlternativeSource[Any]] = []
    if quant.enabled:
        found.append(CryptoQuant(_client(settings, "cryptoquant", quant, quant.base_url), _secret(quant.api_key)))
    if dune.enabled:
        client = _client(settings, "dune", dune, dune.base_url)
        coins = tuple(coin.upper() for coin in dune.coins)
        found.append(Dune(client, _secret(dune.api_key), dune.query_id, coins, dune.poll_seconds, dune.wait_seconds))
    return tuple(found)


def _odds(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.polymarket import Polymarket

    chosen = settings.alternative.polymarket
    if not chosen.enabled:
        return ()
    return (
        Polymarket(
            _client(settings, "polymarket", chosen, chosen.base_url),
            _client(settings, "polymarket_clob", chosen, chosen.clob_url),
            chosen.policy,
            chosen.tag,
            chosen.most_pages,
            chosen.most_histories,
        ),
    )


def _fear_greed(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.fear_greed import FearGreedSource

    chosen = settings.alternative.fear_greed
    return (
        (FearGreedSource(_client(settings, FearGreedSource.name, chosen, chosen.base_url)),) if chosen.enabled else ()
    )


def _coingecko(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.coingecko import CoinGeckoSource

    chosen = settings.alternative.coingecko
    if not chosen.enabled:
        return ()
    client = _client(settings, CoinGeckoSource.name, chosen, chosen.base_url)
    return (
        CoinGeckoSource(
            client,
            coins(settings),
            community_coins=chosen.community_coins,
            api_key=_secret(chosen.api_key),
        ),
    )


def _lunarcrush(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.lunarcrush import LunarCrushSource

    chosen = settings.alternative.lunarcrush
    client = _client(settings, LunarCrushSource.name, chosen, chosen.base_url)
    return (LunarCrushSource(client, coins(settings), api_key=_secret(chosen.api_key)),) if chosen.enabled else ()


def _derivatives(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.derivatives import BinancePositioning, BybitPositioning

    chosen = settings.alternative.derivatives
    if not chosen.enabled:
        return ()
    return (
        BybitPositioning(_client(settings, BybitPositioning.name, chosen, chosen.base_url), coins(settings)),
        BinancePositioning(_client(settings, BinancePositioning.name, chosen, chosen.binance_url), coins(settings)),
    )


def _feeds(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.rss import RssSource

    chosen, limits = settings.alternative.rss, settings.alternative.texts
    feeds = chosen.feeds if chosen.enabled else {}
    return tuple(
        RssSource(name, url, _client(settings, f"rss_{name}", chosen, ""), limits) for name, url in feeds.items()
    )


def _reddit(settings: Settings) -> Sources:
    from trading_pipelines.adapters.alternative.reddit import RedditSource

    chosen = settings.alternative.reddit
    policy = _policy(settings, chosen)
    source = RedditSource(chosen, policy, settings.alternative.texts, settings.data_dir)
    return (source,) if chosen.enabled else ()


def coins(settings: Settings) -> tuple[str, ...]:
    """Base currencies to ask about: those of the settings, or of the traded symbols."""
    return settings.alternative.coins or tuple(dict.fromkeys(coin_of(split_symbol(s)[0]) for s in settings.symbols))


def _client(settings: Settings, name: str, chosen: OutsideSource, base_url: str) -> HttpClient:
    return HttpClient(name, _policy(settings, chosen), cache_dir=settings.data_dir, base_url=base_url)


def _policy(settings: Settings, chosen: OutsideSource) -> HttpPolicy:
    return HttpPolicy(
        timeout_seconds=settings.alternative.timeout_seconds,
        max_bytes=settings.alternative.max_bytes,
        interval_seconds=chosen.interval_seconds,
        cache_seconds=chosen.cache_seconds,
    )


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None and value.get_secret_value() else None


_SIMULATED: Mapping[str, Builder] = {
    "fear_greed": _figures("fear_greed"),
    "coin_metrics": _figures("coin_metrics"),
    "social_metrics": _figures("social_metrics"),
    "derivatives_sentiment": _figures("derivatives_sentiment"),
    "news": _texts("news"),
    "posts": _texts("posts"),
    "whale_transactions": _simulated_transactions,
    "exchange_flows": _simulated_exchange_flows,
    "prediction_odds": _simulated_odds,
}
_OUTSIDE: Mapping[str, Builder] = {
    "fear_greed": _fear_greed,
    "coin_metrics": _coingecko,
    "social_metrics": _lunarcrush,
    "derivatives_sentiment": _derivatives,
    "news": _feeds,
    "posts": _reddit,
    "whale_transactions": _whale_transactions,
    "exchange_flows": _exchange_flows,
    "prediction_odds": _odds,
}
