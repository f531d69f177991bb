"""Pure trading logic: takes data and a clock, returns decisions.

Nothing here imports Dagster, Streamlit, psycopg or ccxt, opens a socket or file, reads the
environment or asks for the time. Backtest, replay, paper and live trading all call this code.
"""
