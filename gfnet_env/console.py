"""What commands show, on terminals and in files."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, TaskID
from rich.status import Status
from rich.table import Table

Item = TypeVar("Item")


class PlainConsole(Console):
    """A console that prints text as it is: the name of a folder or a class may look like markup.

    Without a terminal, ``status`` prints a line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        if not self.is_terminal:
            self.print(status)
        return super().status(escape(status) if isinstance(status, str) else status, **options)


class PlainTable(Table):
    """A table without vertical lines; headings break between words only, and nothing is cut off.

    Args:
        headings: One for each column.
        title: Shown above.
    """

    def __init__(self, *headings: str, title: str | None = None) -> None:
        super().__init__(*headings, title=title, box=box.SIMPLE_HEAD, pad_edge=False)

    def add_column(self, header: RenderableType = "", *others: Any, **options: Any) -> None:
        width = max(map(len, str(header).split()), default=0)
        defaults: dict[str, Any] = {"min_width": width, "overflow": "fold"}
        super().add_column(header, *others, **defaults | options)


class Bars(Progress):
    """Progress bars; without a terminal, a line now and then.

    Args:
        columns: See ``rich.progress.Progress``.
        seconds: Time between two lines.
        disable: Whether to show nothing.
    """

    def __init__(
        self, *columns: str | ProgressColumn, seconds: float = 30.0, disable: bool = False
    ) -> None:
        super().__init__(*columns, console=PlainConsole(), disable=disable)
        self._seconds, self._said_at = seconds, time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if self.disable or self.console.is_terminal or now - self._said_at < self._seconds:
            return
        self._said_at = now
        task = next(task for task in self.tasks if task.id == task_id)
        done = f"{task.completed:,.0f} of {task.total or 0:,.0f}"
        self.console.print(f"{task.description}: {done}, {task.elapsed or 0:.0f} s")


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Go through items, with a bar."""
    with Bars() as bars:
        yield from bars.track(items, description=description)
