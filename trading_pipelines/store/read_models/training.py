"""Trainings that are under way or were interrupted, and what their folds have shown so far."""

from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

QUIET_MINUTES = 10
"""Without a finished task for so long, a training counts as interrupted; the longest search takes less."""

_PROGRESS = """
select t.training_key, i.symbol, t.timeframe, t.as_of, t.created_at, t.finished_at, k.searches, k.searches_done,
       k.folds, k.folds_done, k.workers, k.last_done_at, f.auc,
       case when t.finished_at is not null then 'finished'
            when coalesce(k.last_done_at, t.created_at) > now() - make_interval(mins => %(quiet)s) then 'running'
            else 'interrupted' end as state,
       case when t.finished_at is null then k.left_s / greatest(k.workers, 1) end as eta_s
from trainings t
join instruments i using (instrument_id)
cross join lateral (
    select sum(total) filter (where kind = 'search')::bigint as searches,
           sum(done) filter (where kind = 'search')::bigint as searches_done,
           sum(total) filter (where kind = 'fold')::bigint as folds,
           sum(done) filter (where kind = 'fold')::bigint as folds_done,
           max(last_done_at) as last_done_at,
           case when bool_and(mean_s is not null or total = done) then sum((total - done) * coalesce(mean_s, 0)) end
               as left_s,
           (select count(distinct worker) from training_tasks r
            where r.training_key = t.training_key and r.done_at > now() - interval '2 minutes') as workers
    from (
        select kind, count(*) as total, count(done_at) as done, avg(seconds) as mean_s, max(done_at) as last_done_at
        from training_tasks where training_key = t.training_key group by kind
    ) kinds
) k
left join lateral (
    select avg((metrics ->> 'auc')::float8) as auc from model_folds where training_key = t.training_key
) f on true
where i.exchange = %(exchange)s
order by t.finished_at is not null, t.created_at desc
limit %(limit)s
"""


def training_progress(connection: psycopg.Connection[Any], exchange: str, limit: int) -> pd.DataFrame:
    """Trainings, those without a version first.

    Columns: training_key, symbol, timeframe, as_of, created_at, finished_at, searches, searches_done, folds,
    folds_done, workers (processes that have finished a task in the last two minutes), last_done_at, auc (mean of the
    folds so far), state (running, interrupted, finished) and eta_s (seconds of work left over the workers; null while
    no task of a kind is done).
    """
    return read_frame(connection, _PROGRESS, {"exchange": exchange, "limit": limit, "quiet": QUIET_MINUTES})


_FOLDS = """
select f.fold, f.test_from, f.test_until, f.rounds, f.calibration, f.parameters::text as parameters,
       (f.metrics ->> 'samples')::bigint as samples, (f.metrics ->> 'auc')::float8 as auc,
       (f.metrics ->> 'log_loss')::float8 as log_loss,
       (f.metrics ->> 'baseline_log_loss')::float8 as baseline_log_loss,
       (f.metrics ->> 'brier')::float8 as brier, (f.metrics ->> 'calibration_error')::float8 as calibration_error,
       (f.metrics ->> 'precision')::float8 as precision, (f.metrics ->> 'coverage')::float8 as coverage,
       (f.metrics ->> 'trades')::bigint as trades, (f.metrics ->> 'net_profit')::float8 as net_profit,
       k.worker, k.seconds, k.done_at
from model_folds f
left join training_tasks k on k.training_key = f.training_key and k.kind = 'fold' and k.number = f.fold
where f.training_key = %(key)s
order by f.fold
"""


def training_folds(connection: psycopg.Connection[Any], training_key: str) -> pd.DataFrame:
    """What each fold of a training has shown, with which parameters (JSON text), by which worker and how fast."""
    return read_frame(connection, _FOLDS, {"key": training_key})
