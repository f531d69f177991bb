"""Large transactions, their sums as they became known, and those of the simulated market."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.onchain.flows import (
    Flow,
    WhaleScoreSpec,
    hourly_netflow,
    signed_flow,
    stablecoin_inflow,
    whale_scores,
)
from trading_pipelines.domain.onchain.transactions import (
    FlowDirection,
    FlowThresholds,
    OwnerKind,
    coin_behind,
    direction_of,
    owner_kind,
)
from trading_pipelines.domain.simulation.flows import SimulatedFlows
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

START = datetime(2026, 3, 10, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
SPEC = WhaleScoreSpec(norm_days=2, least_usd=1e6)


def flow(hours: float, usd: float, *, late: timedelta = MINUTE, coin: str = "BTC") -> Flow:
    ts = START + hours * HOUR
    return Flow(coin, ts, ts + late, usd)


@pytest.mark.parametrize(
    ("sender", "recipient", "direction"),
    [
        (OwnerKind.UNKNOWN, OwnerKind.EXCHANGE, FlowDirection.INFLOW),
        (OwnerKind.EXCHANGE, OwnerKind.WHALE, FlowDirection.OUTFLOW),
        (OwnerKind.EXCHANGE, OwnerKind.EXCHANGE, FlowDirection.TRANSFER),
        (OwnerKind.WHALE, OwnerKind.UNKNOWN, FlowDirection.TRANSFER),
    ],
)
def test_direction_is_seen_from_the_exchanges(
    sender: OwnerKind, recipient: OwnerKind, direction: FlowDirection
) -> None:
    assert direction_of(sender, recipient) is direction


@pytest.mark.parametrize(
    ("said", "names", "kind"),
    [
        ("Exchange", ("binance",), OwnerKind.EXCHANGE),
        ("unknown", ("1abc",), OwnerKind.UNKNOWN),
        ("", ("",), OwnerKind.UNKNOWN),
        ("fund", ("Some Fund",), OwnerKind.WHALE),
        ("unknown", ("BIG HOLDER",), OwnerKind.WHALE),
    ],
)
def test_owner_is_what_the_source_says_or_the_settings_list(said: str, names: tuple[str, ...], kind: OwnerKind) -> None:
    assert owner_kind(said, names, FlowThresholds(whales=("Big Holder",))) is kind


def test_thresholds_differ_by_coin_and_wrapped_coins_are_those_behind_them() -> None:
    limits = FlowThresholds()
    assert [limits.minimum_usd(coin_behind(c)) for c in ("btc", "weth", "sol", "usdt")] == [1e6, 1e6, 5e5, 5e5]


def test_hour_is_known_at_its_end_and_again_when_something_comes_late() -> None:
    flows = [flow(0.1, 5.0), flow(0.9, -2.0, late=HOUR)]

    found = hourly_netflow(flows, ["BTC"], "x", START, START + 2 * HOUR)

    assert [(o.ts, o.available_at, o.value) for o in found] == [
        (START, START + HOUR, 5.0),
        (START, START + 1.9 * HOUR, 3.0),
        (START + HOUR, START + 2 * HOUR, 0.0),
    ]


def test_hour_in_progress_has_no_value() -> None:
    assert hourly_netflow([flow(0.1, 5.0)], ["BTC"], "x", START, START + 59 * MINUTE) == []


def test_stablecoins_that_leave_are_not_deducted() -> None:
    flows = [flow(0.1, 5.0, coin="USDT"), flow(0.2, -3.0, coin="USDC"), flow(0.3, 7.0)]
    assert [o.value for o in stablecoin_inflow(flows, "x", START, START + HOUR)] == [5.0]


def test_whale_score_follows_its_formula() -> None:
    flows = [flow(-30, 4e6), flow(-10, -2e6), flow(5, -6e6), flow(7, 2e6)]

    (found,) = whale_scores(flows, ["BTC"], "x", START, START + DAY, SPEC)

    usual = (4e6 + 2e6) / 2
    assert found.value == pytest.approx((6e6 - 2e6) / (8e6 + usual))
    assert (found.ts, found.available_at) == (START, START + DAY)


def test_day_without_transactions_has_score_zero_and_transfers_count_for_nothing() -> None:
    transfer = signed_flow("BTC", FlowDirection.TRANSFER, START + HOUR, START + HOUR, 9e9)
    assert [o.value for o in whale_scores([transfer], ["BTC"], "x", START, START + DAY, SPEC)] == [0.0]


AMOUNTS = st.lists(
    st.tuples(st.floats(-47, 23.9), st.floats(-1e10, 1e10), st.floats(0, 40)),
    max_size=30,
)


@given(AMOUNTS)
def test_whale_score_is_bounded_and_its_sign_is_that_of_what_left(amounts: list[tuple[float, float, float]]) -> None:
    flows = [flow(hours, usd, late=late * HOUR) for hours, usd, late in amounts]
    for found in whale_scores(flows, ["BTC"], "x", START, START + DAY, SPEC):
        known = [f for f in flows if f.known_at <= found.available_at and START <= f.ts < START + DAY]
        assert -1 < found.value < 1
        assert found.value * sum(f.usd for f in known) <= 1e-6


@given(AMOUNTS, st.floats(1, 24))
def test_what_was_known_at_a_time_does_not_depend_on_what_came_later(
    amounts: list[tuple[float, float, float]], hours: float
) -> None:
    flows = [flow(at, usd, late=late * HOUR) for at, usd, late in amounts]
    then = START + hours * HOUR
    known = [f for f in flows if f.known_at <= then]

    before = hourly_netflow(known, ["BTC"], "x", START, START + DAY)
    after = hourly_netflow(flows, ["BTC"], "x", START, START + DAY)

    assert [o for o in before if o.available_at <= then] == [o for o in after if o.available_at <= then]


MARKET = SimulatedFlows(SimulatedMarket(SimulatedMarketSpec()))


def test_simulated_flows_are_the_same_in_any_window() -> None:
    whole = MARKET.transactions(START, START + 3 * DAY)
    parts = MARKET.transactions(START, START + DAY) + MARKET.transactions(START + DAY, START + 3 * DAY)
    assert whole == parts
    assert MARKET.flows(START, START + DAY) == MARKET.flows(START, START + 2 * DAY)[: 24 * 3]
    assert MARKET.transactions(START + DAY, START) == []


def test_simulated_holders_withdraw_after_a_rise_more_than_after_a_fall() -> None:
    """Over two months the share of withdrawals follows the way of the day before."""
    market = SimulatedMarket(SimulatedMarketSpec())
    found = [t for t in MARKET.transactions(START, START + 60 * DAY) if t.coin == "BTC"]
    close = market.candles("BTCUSDT", START - 2 * DAY, START + 60 * DAY).set_index("ts")["close"]
    after = {True: [0, 0], False: [0, 0]}
    for t in found:
        opened = t.ts.replace(minute=0, second=0) - 5 * MINUTE
        rose = bool(close[opened] > close[opened - DAY])
        after[rose][t.direction is FlowDirection.OUTFLOW] += 1
    share = {rose: out / (rest + out) for rose, (rest, out) in after.items()}
    assert share[True] > share[False] + 0.05
