"""What a person sees of a defect: one line and where to read on, or everything with `--debug`."""

import logging
import traceback

_debug = False


def show_tracebacks(wanted: bool) -> None:
    """Remember what `--debug` asked for."""
    global _debug
    _debug = wanted


def is_debugging() -> bool:
    """Whether `--debug` was given."""
    return _debug


def describe_failure(error: Exception) -> str:
    """The text for standard error; the traceback goes to the log file, where there is one."""
    if _debug:
        return traceback.format_exc()
    files = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)
    logging.getLogger(__name__).error("the command has failed", exc_info=error)
    where = f"see {files[0]}" if files else "run again with --debug, right after `trading`"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    return f"error: {type(error).__name__}: {reason} ({where})\n"
