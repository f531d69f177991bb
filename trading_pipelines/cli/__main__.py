"""``python -m trading_pipelines.cli`` is `trading`, for environments without the script on the path."""

from trading_pipelines.cli import main

if __name__ == "__main__":
    main()
