"""The command `trading`.

Belongs here: reading arguments, showing progress and results, and turning mistakes into one line and an exit code. Does
not belong here: any work, which is done by `application` and `services`.
"""

import sys
from collections.abc import Sequence

from trading_pipelines.errors import UserError

USER_ERROR = 2
UNEXPECTED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 a mistake that the user can mend, 1 anything else."""
    from trading_pipelines.cli.app import app
    from trading_pipelines.cli.failures import describe_failure

    try:
        app(args=arguments, prog_name="trading")
    except UserError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        # The reader of our output has seen enough, for example `head`.
        sys.stderr.close()
        sys.exit(UNEXPECTED)
    except Exception as error:  # the last place that can turn a defect into something a person can act on
        sys.stderr.write(describe_failure(error))
        sys.exit(UNEXPECTED)
