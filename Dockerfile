# One image for every service of docker-compose.yml; which one it is, its command says.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /srv/trading
# The libraries change less often than the code, so they are a layer of their own.
COPY requirements.lock ./
RUN pip install --no-deps --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY trading_pipelines trading_pipelines
RUN pip install --no-deps --editable .

FROM python:3.13-slim-bookworm
# LightGBM is linked against OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /srv/trading --shell /usr/sbin/nologin trading \
    && install --directory --owner trading /srv/data /srv/dagster_home /srv/dagster_home/storage
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/trading
COPY --from=build /srv/trading ./
COPY streamlit_app streamlit_app
COPY dagster_home/dagster.yaml /srv/dagster_home/dagster.yaml
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/srv/dagster_home \
    TRADING_DATA_DIR=/srv/data
USER trading
CMD ["trading", "--help"]
