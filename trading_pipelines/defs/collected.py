"""What all stages share that ask sources of alternative data: the outcome of a run, and whether the sources answered.

Belongs here: reports of collections as metadata, failures and a check. Does not belong here: which tables they fill
(`assets.py` of the stage) and how a source is asked (`application.alternative.alternative_data`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import dagster as dg

from trading_pipelines.defs.tables import broken_rows
from trading_pipelines.resources.platform import DatabaseResource, OutsideResource

if TYPE_CHECKING:
    from trading_pipelines.application.alternative.alternative_data import CollectionReport

_FAILING: LiteralString = """
select source, detail, last_success_at from source_states where source = any(%(sources)s) and status = 'FAILING'
"""


def outcome(context: dg.AssetExecutionContext, reports: "Sequence[CollectionReport]") -> dict[str, Any]:
    """What came of collections, for people; a failure only when no source has answered and one should have."""
    for report in reports:
        if report.status != "OK":
            context.log.warning(f"{report.source}: {report.detail}")
    if not any(report.status == "OK" for report in reports) and any(r.status == "FAILING" for r in reports):
        raise dg.Failure("no source has answered: " + "; ".join(r.detail for r in reports if r.status == "FAILING"))
    return {
        "new": sum(report.new for report in reports),
        "refused": sum(report.refused for report in reports),
        "sources": {report.source: report.status for report in reports},
    }


def sources_answer(spec: dg.AssetSpec, dataset: str) -> dg.AssetChecksDefinition:
    """Warn of sources that are configured and did not answer."""

    @dg.asset_check(
        asset=spec.key,
        name="sources_answer",
        description="Each source that is configured answered when it was asked last.",
    )
    def check(database: DatabaseResource, outside: OutsideResource) -> dg.AssetCheckResult:
        names = [source.name for source in outside.open(dataset)]
        with database.connect() as connection:
            return broken_rows(connection, _FAILING, {"sources": names}, dg.AssetCheckSeverity.WARN)

    return check
