"""Questions, ladders and implied distributions, and the odds of the simulated market."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.prediction_markets.ladder import Method, Rung, bias, imply, quantile, survival_at
from trading_pipelines.domain.prediction_markets.markets import (
    Asked,
    MarketKind,
    MarketStatus,
    OddsPolicy,
    is_liquid,
    read_question,
)
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.odds import SimulatedOdds
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

NOW = datetime(2026, 3, 10, 12, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ABOVE, BELOW, BETWEEN = MarketKind.ABOVE, MarketKind.BELOW, MarketKind.BETWEEN


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Will the price of Bitcoin be above $64,000 on March 11?", Asked("BTC", ABOVE, 64_000)),
        ("Will the price of Bitcoin be less than $58,000 on March 11?", Asked("BTC", BELOW, 58_000)),
        ("Will the price of Ethereum be between $2,000 and $2,100 on March 3?", Asked("ETH", BETWEEN, 2_000, 2_100)),
        ("Will BTC hit $100k?", Asked("BTC", MarketKind.HIT_ABOVE, 100_000)),
        ("Will Bitcoin reach $1m in 2026?", Asked("BTC", MarketKind.HIT_ABOVE, 1_000_000)),
        ("Will Bitcoin dip to $80,000 in November?", Asked("BTC", MarketKind.HIT_BELOW, 80_000)),
        ("Will XRP hit $3.50 before 2027?", Asked("XRP", MarketKind.HIT_ABOVE, 3.5)),
        ("Bitcoin Up or Down on March 12?", Asked("BTC", MarketKind.UP_OR_DOWN)),
        ("Bitcoin Cash above $400?", Asked("BCH", ABOVE, 400)),
        ("MicroStrategy holds 1 million BTC?", Asked("BTC", MarketKind.EVENT)),
        ("Bitcoin ETF inflows above $1b this week?", Asked("BTC", MarketKind.EVENT)),
        ("Will Bitcoin outperform Ethereum?", Asked("MARKET", MarketKind.EVENT)),
        ("Katana FDV above $1B one day after launch?", Asked("MARKET", MarketKind.EVENT)),
        ("Will NVIDIA (NVDA) close above $240 end of January?", None),
        ("Will Ada Lovelace get a stamp?", None),
        ("", None),
    ],
)
def test_question_is_read(question: str, asked: Asked | None) -> None:
    assert read_question(question) == asked


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error_and_strikes_are_in_order(text: str) -> None:
    asked = read_question(f"Bitcoin {text}")
    assert asked is None or asked.strike is None or asked.strike > 0
    assert asked is None or asked.upper_strike is None or asked.upper_strike > (asked.strike or 0)


def rungs(*points: tuple[float, float], kind: MarketKind = ABOVE, weight: float = 1_000.0) -> list[Rung]:
    return [Rung(kind, strike, None, chance, weight) for strike, chance in points]


def test_ladder_gives_median_quartiles_and_the_chance_of_a_higher_price() -> None:
    (made,) = imply(rungs((80, 0.9), (100, 0.5), (125, 0.1)), spot=100, min_rungs=3)

    assert made.method is Method.TERMINAL
    assert made.above_spot == pytest.approx(0.5)
    assert made.quantiles[2] == pytest.approx(100)
    assert made.repaired == 0
    assert bias([made]) == pytest.approx(0)
    assert [q is None for q in made.quantiles] == [False] * 5


def test_contradicting_odds_are_repaired_by_their_weights() -> None:
    ladder = [Rung(ABOVE, 90, None, 0.4, 3_000), Rung(ABOVE, 100, None, 0.6, 1_000), Rung(ABOVE, 110, None, 0.1, 1_000)]

    (made,) = imply(ladder, spot=95, min_rungs=3)

    assert made.survival == pytest.approx((0.45, 0.45, 0.1))
    assert made.repaired == pytest.approx(0.15)


def test_what_lies_outside_of_the_strikes_is_not_known() -> None:
    (made,) = imply(rungs((100, 0.4), (110, 0.3), (120, 0.2)), spot=90, min_rungs=3)
    assert made.above_spot is None
    assert made.quantiles[:3] == (None, None, None)
    assert bias([made]) is None


def test_markets_below_and_above_a_strike_say_the_same() -> None:
    above = imply(rungs((90, 0.8), (100, 0.5), (110, 0.2)), 100, 3)
    below = imply(rungs((90, 0.2), (100, 0.5), (110, 0.8), kind=BELOW), 100, 3)
    assert above[0].survival == pytest.approx(below[0].survival)


def test_buckets_are_summed_and_the_margin_is_taken_out() -> None:
    buckets = [
        Rung(BELOW, 90, None, 0.22, 1.0),
        Rung(BETWEEN, 90, 100, 0.33, 1.0),
        Rung(BETWEEN, 100, 110, 0.33, 1.0),
        Rung(ABOVE, 110, None, 0.22, 1.0),
    ]
    (made,) = imply(buckets, 100, 3)
    assert survival_at(made.strikes, made.survival, 100) == pytest.approx(0.5)


def test_buckets_with_a_hole_add_nothing() -> None:
    holed = [Rung(BELOW, 90, None, 0.2, 1.0), Rung(BETWEEN, 90, 100, 0.3, 1.0), Rung(ABOVE, 120, None, 0.2, 1.0)]
    assert imply(holed, 100, 3) == []


def test_chances_of_reaching_a_price_are_halved_and_reached_ones_left_out() -> None:
    touch = [
        *rungs((110, 0.6), (120, 0.3), (95, 0.9), kind=MarketKind.HIT_ABOVE),
        *rungs((90, 0.5), (80, 0.2), kind=MarketKind.HIT_BELOW),
    ]
    (made,) = imply(touch, spot=100, min_rungs=3)
    assert made.method is Method.TOUCH
    assert dict(zip(made.strikes, made.survival, strict=True)) == pytest.approx(
        {80: 0.9, 90: 0.75, 110: 0.3, 120: 0.15}
    )


@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1), st.floats(0, 1e7)), min_size=3, max_size=15),
    st.floats(1, 1e6),
)
def test_any_odds_imply_a_distribution(points: list[tuple[float, float, float]], spot: float) -> None:
    for made in imply([Rung(ABOVE, k, None, p, w) for k, p, w in points], spot, 3):
        assert all(0 <= value <= 1 for value in made.survival)
        assert all(a >= b - 1e-12 for a, b in zip(made.survival, made.survival[1:], strict=False))
        found = [q for q in made.quantiles if q is not None]
        assert found == sorted(found)
        assert all(made.strikes[0] * 0.999 <= q <= made.strikes[-1] * 1.001 for q in found)
        assert -1 <= (bias([made]) or 0) <= 1


def test_quantile_lies_between_strikes_in_logarithms() -> None:
    assert quantile([100, 400], [0.9, 0.1], 0.5) == pytest.approx(math.sqrt(100 * 400))
    assert quantile([100, 400], [0.4, 0.1], 0.5) is None


@pytest.mark.parametrize(
    ("spread", "liquidity", "volume", "counts"),
    [(0.02, 5e3, 5e3, True), (0.3, 5e3, 5e3, False), (0.02, 10, 5e3, False), (0.02, 5e3, 0, False)],
)
def test_only_liquid_odds_count(spread: float, liquidity: float, volume: float, counts: bool) -> None:
    assert is_liquid(spread, liquidity, volume, OddsPolicy()) is counts
    assert is_liquid(None, None, None, OddsPolicy())


SIMULATED = SimulatedOdds(SimulatedMarket(SimulatedMarketSpec()))


def test_simulated_odds_are_the_same_in_any_window_and_never_of_the_future() -> None:
    markets, odds = SIMULATED.known(NOW - 3 * DAY, NOW)
    _, first = SIMULATED.known(NOW - 3 * DAY, NOW - DAY)
    _, second = SIMULATED.known(NOW - DAY, NOW)
    key = lambda o: (o.market_id, o.ts)  # noqa: E731  # a name for a sort key
    assert sorted(first + second, key=key) == sorted(odds, key=key)
    assert max(o.available_at for o in odds) <= NOW
    assert {o.market_id for o in odds} <= {m.market_id for m in markets}
    assert len({m.market_id for m in markets}) == len(markets)


def test_simulated_questions_read_as_what_they_are_and_end_with_an_outcome() -> None:
    markets, _ = SIMULATED.known(NOW - 10 * DAY, NOW)
    for market in markets:
        assert read_question(market.question) == Asked(market.coin, market.kind, market.strike)
        assert (market.status is MarketStatus.RESOLVED) == (market.outcome is not None)
        assert market.status is MarketStatus.RESOLVED or market.expires_at > NOW - HOUR


@pytest.mark.real_data
def test_recorded_questions_of_polymarket_are_read(real_data_dir: Path) -> None:
    """A ladder on one price, a five-minute market, and markets about neither coins nor prices."""
    folder = real_data_dir / "api_samples/polymarket_nautilus"
    ladder = json.loads((folder / "search_response.json").read_text())
    read = [read_question(m["question"]) for event in ladder["events"] for m in event["markets"]]
    assert {(a.coin, a.kind) for a in read if a} == {("BTC", ABOVE)}
    short = json.loads((folder / "gamma_market.json").read_text())
    assert read_question(short["question"]) == Asked("BTC", MarketKind.UP_OR_DOWN)
    others = json.loads((real_data_dir / "polymarket/gamma_markets_guzus.json").read_text())
    assert [read_question(m["question"]) for m in others if "Bitcoin" not in m["question"]] == [None] * sum(
        "Bitcoin" not in m["question"] for m in others
    )
