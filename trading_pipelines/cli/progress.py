"""Progress on standard error: bars on a terminal, else a line every few seconds.

Every step says what is done, how much of it, and how long it will still take.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_INTERVAL_S = 5.0


class ProgressDisplay:
    """Shows any number of steps; each is known by its name."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._last_line = 0.0

    def update(self, step: str, fraction: float | None = None, detail: str = "") -> None:
        """Show how far a step is: `fraction` is None where nobody knows and 1.0 when it is done."""
        if self._progress is not None:
            self._bar(self._progress, step, fraction, detail)
        else:
            self._line(step, fraction, detail)

    def _bar(self, progress: Progress, step: str, fraction: float | None, detail: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = progress.add_task(step, total=None, detail="")
        progress.update(
            self._tasks[step],
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
            detail=detail,
        )

    def _line(self, step: str, fraction: float | None, detail: str) -> None:
        now = time.monotonic()
        is_new = step not in self._began
        began = self._began.setdefault(step, now)
        done = fraction is not None and fraction >= 1.0
        if not done and not is_new and now - self._last_line < LINE_INTERVAL_S:
            return
        self._last_line = now
        parts = [step, "done" if done else "" if fraction is None else f"{fraction:.0%}", detail]
        elapsed = now - began
        if fraction is not None and 0 < fraction < 1 and elapsed > 1:
            parts.append(f"about {elapsed / fraction - elapsed:.0f} s left")
        elif done:
            parts.append(f"{elapsed:.1f} s")
        sys.stderr.write("  ".join(part for part in parts if part) + "\n")
        sys.stderr.flush()


@contextmanager
def progress_display() -> Iterator[ProgressDisplay]:
    """Show progress for the length of the block."""
    if not sys.stderr.isatty():
        yield ProgressDisplay(None)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield ProgressDisplay(progress)
