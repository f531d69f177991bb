"""Print the reference page of all features: ``python -m trading_pipelines.domain.features > docs/features.md``."""

import sys

from trading_pipelines.domain.features.registry import documentation

sys.stdout.write(documentation())
