"""Entry of the Streamlit application: navigation, the choice of session, and one place for errors.

Started with ``streamlit run streamlit_app/streamlit_app.py``. The pages read through `queries` with a read-only
database role; what a person asks for is written down by `hand` and carried out by the fast service.
"""

from pathlib import Path

import layout
import queries
import streamlit as st

IMAGES = Path(__file__).parent / "images"

# The icon is a file: a Material name would be fetched from the network by the browser.
st.set_page_config(page_title="Trading pipelines", page_icon=IMAGES / "icon.svg", layout="wide")
st.logo(IMAGES / "logo.svg", size="large", icon_image=IMAGES / "icon.svg")

page = st.navigation(
    {
        "Trading": [
            st.Page("app_pages/market.py", title="Market", icon=":material/monitoring:", default=True),
            st.Page("app_pages/signals.py", title="Signals", icon=":material/sensors:", url_path="signals"),
            st.Page("app_pages/chart.py", title="Chart", icon=":material/candlestick_chart:", url_path="chart"),
            st.Page(
                "app_pages/positions.py",
                title="Positions",
                icon=":material/account_balance_wallet:",
                url_path="positions",
            ),
            st.Page("app_pages/risk.py", title="Risk", icon=":material/shield:", url_path="risk"),
            st.Page(
                "app_pages/sessions.py",
                title="Sessions",
                icon=":material/account_tree:",
                url_path="sessions",
            ),
            st.Page(
                "app_pages/performance.py",
                title="Performance",
                icon=":material/show_chart:",
                url_path="performance",
            ),
        ],
        "Insight": [
            st.Page("app_pages/scores.py", title="Scores", icon=":material/leaderboard:", url_path="scores"),
            st.Page("app_pages/screener.py", title="Screener", icon=":material/radar:", url_path="screener"),
            st.Page("app_pages/sentiment.py", title="Sentiment", icon=":material/forum:", url_path="sentiment"),
            st.Page("app_pages/whale_flows.py", title="Whale flows", icon=":material/waves:", url_path="flows"),
            st.Page("app_pages/polymarket.py", title="Polymarket", icon=":material/casino:", url_path="odds"),
        ],
        "Research": [
            st.Page("app_pages/replay.py", title="Replay", icon=":material/replay:", url_path="replay"),
            st.Page("app_pages/backtests.py", title="Backtests", icon=":material/science:", url_path="backtests"),
            st.Page("app_pages/models.py", title="Models", icon=":material/model_training:", url_path="models"),
        ],
        "Platform": [
            st.Page("app_pages/data_status.py", title="Data status", icon=":material/database:", url_path="data"),
            st.Page("app_pages/settings.py", title="Settings", icon=":material/tune:", url_path="settings"),
        ],
    },
    expanded=True,
)

layout.page_style()
with layout.friendly_errors():
    layout.choose_session(queries.list_sessions())
    layout.kill_banner()
    page.run()
