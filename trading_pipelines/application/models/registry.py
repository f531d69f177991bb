"""Which model version predicts: promote, roll back, pin, and say what there is.

Every change holds from its moment on and is kept with who wanted it and why, so that a replay of any day uses the
version of that day. The database refuses what is not legal; the command line and the dashboard go through the same
function of it.

Belongs here: changes by hand and by a training that has earned it. Does not belong here: whether it has
(`application.models.training`).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import errors

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import events, models
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.models import ModelVersion
from trading_pipelines.store.transaction import committed


class Change(StrEnum):
    """What can be done to a version by hand."""

    PROMOTE = "promote"
    """Put it into production."""
    ROLLBACK = "rollback"
    """Take it out of production; the version before predicts again."""
    PIN = "pin"
    """Keep it in production: nothing takes its place."""
    UNPIN = "unpin"


def change(
    connection: psycopg.Connection[Any], wanted: Change, model_id: str, requested_by: str, reason: str, at: datetime
) -> str:
    """Change what is in production from `at` on, and commit; the version that is concerned in the end.

    Raises
    ------
    UserError
        Unknown version, or a change that is not legal: a pinned market, a moment before the version existed, a roll
        back with nothing before.
    """
    version = _existing(connection, model_id)
    if wanted is Change.PROMOTE and version.feature_set_id != current_feature_set(connection):
        raise UserError(f"{model_id} was trained on other features than today's and could not predict: train a new one")
    try:
        with committed(connection):
            concerned = models.change(connection, wanted.value, model_id, requested_by, reason, at)
            text = f"{wanted.value} {model_id}" + (f" to {concerned}" if concerned != model_id else "")
            events.append(connection, at, "model_change", concerned, f"{text}: {reason}", severity=Severity.INFO)
    except (errors.CheckViolation, errors.NoDataFound) as error:
        raise UserError(f"{model_id}: {error.diag.message_primary}") from error
    return concerned


def promote(connection: psycopg.Connection[Any], model_id: str, effective_from: datetime, reason: str) -> None:
    """Put a version into production from `effective_from` on, and commit; an older one to roll back.

    Raises
    ------
    UserError
        Unknown version, a moment at which it did not exist because it has learnt from what came later, or another
        version that is pinned.
    """
    version = _existing(connection, model_id)
    if effective_from < version.as_of:
        raise UserError(f"{model_id} has learnt from data up to {version.as_of:%Y-%m-%d %H:%M}: promote it later")
    change(connection, Change.PROMOTE, model_id, "owner", reason, effective_from)


def promote_earned(connection: psycopg.Connection[Any], version: ModelVersion, reason: str) -> str | None:
    """Let a training's version take over from its as-of time on, unless another one is pinned; why it does not."""
    pinned = models.pinned(connection, version.instrument_id, version.timeframe, version.as_of)
    if pinned is not None and pinned != version.model_id:
        return f"{pinned} is pinned"
    models.promote(connection, version, version.as_of, reason)
    return None


def _existing(connection: psycopg.Connection[Any], model_id: str) -> ModelVersion:
    version = models.find(connection, model_id)
    if version is None:
        raise UserError(f"there is no model version {model_id}: `trading models list` names them")
    return version
