"""How a training run tells Dagster what it does, and what it is told to do.

Belongs here: what the training asset and the job of its helpers share. Does not belong here: how the time left is
estimated (`application.models.tasks`).
"""

import time
from typing import TYPE_CHECKING

import dagster as dg

from trading_pipelines.settings import settings

if TYPE_CHECKING:
    from trading_pipelines.application.models.tasks import TrainingProgress
    from trading_pipelines.domain.modelling.spec import TrainingSpec

TAG = "trading/progress"
"""Tag of a run that says how far its training has come; the run's page and the list of runs show it."""
PAUSE_S = 5.0


class ProgressLog:
    """Logs progress and tags the run with it, every few seconds and at the end."""

    def __init__(self, context: dg.OpExecutionContext | dg.AssetExecutionContext) -> None:
        self._context = context
        self._last = 0.0

    def __call__(self, progress: "TrainingProgress") -> None:
        """Tell, unless it was told a moment ago."""
        now = time.monotonic()
        if progress.done < progress.total and now - self._last < PAUSE_S:
            return
        self._last = now
        left = "" if progress.eta_s is None else f", about {progress.eta_s:.0f} s left"
        text = f"{progress.symbol}: {progress.done} of {progress.total} searches and folds{left}"
        self._context.log.info(text)
        self._context.instance.add_run_tags(self._context.run.run_id, {TAG: text})


def training_spec(search: bool | None) -> "TrainingSpec":
    """The settings' spec, with or without a search if somebody has said so."""
    spec = settings().training
    if search is None:
        return spec
    return spec.model_copy(update={"search": spec.search.model_copy(update={"enabled": search})})
