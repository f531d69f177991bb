"""Why a trade is there: the chain from its result back to the candles, on the pages of signals and positions."""

from collections.abc import Callable

import psycopg
import pytest
from page_driver import OpenPage, table_with, text_of
from streamlit.testing.v1 import AppTest

IN_PAPER = "session_id = (select session_id from sessions where name = 'paper')"
LINKS = (
    "Result",
    "Orders and fills",
    "Signal",
    "Factors",
    "Gates",
    "Risk rules",
    "Model version",
    "Features",
    "Candles",
)


def one(url: str, query: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def choose(open_page: OpenPage, view: str, key: str, id_: str) -> AppTest:
    """The page of positions as somebody who comes back to it sees it, with the trade that was chosen before."""
    app = open_page("market", session="paper", positions_view=view)
    app.session_state[f"{key}_chosen"] = id_
    return app.switch_page("app_pages/positions.py").run()


@pytest.fixture
def with_features(change: Callable[[str], None]) -> None:
    """A feature row at the bar of every signal."""
    change(
        "insert into features_15m select distinct s.instrument_id, fs.feature_set_id, s.ts, s.ts + interval '15 min', "
        "array[1.5, 0.2, 'NaN'] from signals s cross join feature_sets fs"
    )


def test_chain_of_a_signal_is_drawn_when_it_is_asked_for(
    open_page: OpenPage, filled_database: str, with_features: None
) -> None:
    app = open_page("market", session="paper")
    app.session_state["signal_id"] = one(
        filled_database, f"select signal_id from signals where status = 'HIT_SL' and {IN_PAPER}"
    )
    app.switch_page("app_pages/signals.py").run()
    assert "Model version" not in text_of(app)

    app = app.toggle(key="signal_why").set_value(True).run()

    assert not app.exception
    assert [title for title in LINKS if f"**{title}**" not in text_of(app)] == []
    assert "trading explain" in text_of(app)
    assert table_with(app, "name", "weight")["name"].tolist()[:3] == ["ema_gap", "rsi_14", "atr_14"]
    assert table_with(app, "role", "candles")["role"].tolist()[0] == "features, own bars"


@pytest.mark.parametrize(
    ("view", "key", "query"),
    [
        ("Open", "open", "select position_id from positions where status = 'OPEN'"),
        ("Closed", "closed", "select position_id from positions where status = 'CLOSED'"),
        ("Orders", "orders", "select client_order_id from orders where leg = 'STOP'"),
    ],
)
def test_chain_of_the_chosen_position_or_order_stands_below_the_table(
    open_page: OpenPage, filled_database: str, view: str, key: str, query: str
) -> None:
    app = choose(open_page, view, key, one(filled_database, f"{query} and {IN_PAPER}"))

    assert not app.exception
    assert not app.error
    assert "**Result**" in text_of(app)
    assert "**Signal**" in text_of(app)
    assert "No row is stored at this bar" in text_of(app)


SCORED = """
insert into composite_scores
select s.instrument_id, 15, s.ts, s.ts + interval '15 min', c.definition_id, c.score, c.confidence, c.coverage, c.known,
       c.bullish, c.bearish, c.consensus, c."values", c.ages, c.weights, c.contributions
from signals s cross join (select * from composite_scores where score <> 'NaN' limit 1) c on conflict do nothing;
insert into factor_values
select c.instrument_id, 15, c.ts, c.available_at, f.definition_id, f.raw, f.mapped, f.ages
from composite_scores c cross join (select * from factor_values limit 1) f on conflict do nothing;
insert into observations
select distinct 'fear_greed', 'MARKET', case i.exchange when 'simulated' then 'simulated' else 'alternative_me' end,
       s.ts - interval '2 hours', s.ts - interval '1 hour', 37
from signals s join instruments i using (instrument_id) on conflict do nothing
"""


def test_score_and_the_observations_behind_it_are_part_of_the_chain(
    open_page: OpenPage, filled_database: str, change: Callable[[str], None]
) -> None:
    change(SCORED)
    app = open_page("market", session="paper")
    app.session_state["signal_id"] = one(
        filled_database, f"select signal_id from signals where status = 'HIT_SL' and {IN_PAPER}"
    )
    app.switch_page("app_pages/signals.py").run()

    app = app.toggle(key="signal_why").set_value(True).run()

    assert not app.exception
    assert "**Composite score**" in text_of(app)
    assert "points above or below 50" in text_of(app)
    known = table_with(app, "for", "series", "available_at").set_index("for")
    assert known.loc["score fear_greed", ["coin", "value", "rows"]].tolist() == ["MARKET", 37.0, 1]


@pytest.mark.parametrize("view", ["Open", "Closed", "Orders"])
def test_table_without_a_choice_says_that_a_row_can_be_selected(open_page: OpenPage, view: str) -> None:
    app = open_page("positions", session="paper", positions_view=view)
    assert "Select a row to see why it is there" in text_of(app)


def test_trade_that_no_signal_led_to_says_so(
    open_page: OpenPage, filled_database: str, change: Callable[[str], None]
) -> None:
    chosen = one(filled_database, f"select position_id from positions where status = 'OPEN' and {IN_PAPER}")
    change(f"update positions set signal_id = null where position_id = '{chosen}'")

    app = choose(open_page, "Open", "open", chosen)

    assert "No signal led to it" in text_of(app)
