"""Open a page of the application in a test and read what is on it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "streamlit_app"
OpenPage = Callable[..., AppTest]


def open_page(name: str, **parameters: str) -> AppTest:
    """Open a page of `app_pages` by name, with query parameters as keywords."""
    app = AppTest.from_file(str(APP / "streamlit_app.py"), default_timeout=60)
    for key, value in parameters.items():
        app.query_params[key] = value
    app.run()
    if name != "market":
        app.switch_page(f"app_pages/{name}.py").run()
    return app


def text_of(app: AppTest) -> str:
    """Everything that is written on the page outside tables and figures."""
    groups = (app.title, app.subheader, app.markdown, app.caption, app.error, app.code)
    return "\n".join(str(element.value) for group in groups for element in group)


def cards(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def table_with(app: AppTest, *columns: str) -> pd.DataFrame:
    """The table that has all these columns."""
    return next(t.value for t in app.dataframe if set(columns) <= set(t.value.columns))
