"""How a training shows its progress: a live bar on a terminal, a line an epoch elsewhere; both on standard error."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ae_core.training.loop import Epoch


class TrainingProgress:
    """Shows loss, images per second and time left; use it as a context manager and as the loop's watcher."""

    def __init__(self, label: str, epochs: int) -> None:
        self.label, self.epochs = label, epochs
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task: TaskID | None = None
        self.rate = 0.0

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        self.task = self.bar.add_task(f"{self.label}: compiling", total=None, status="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def progress(self, epoch: int, step: int, total_steps: int, loss: float, images_per_second: float) -> None:
        """Move the bar."""
        self.rate = images_per_second
        if self.task is not None:
            status = f"loss {loss:.5g}" + (f"  {images_per_second:,.0f} images/s" if images_per_second else "")
            description = f"{self.label}: epoch {epoch}/{self.epochs}"
            self.bar.update(self.task, description=description, completed=step, total=total_steps, status=status)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """Write a line about the epoch."""
        rate = f"  {self.rate:,.0f} images/s" if self.rate else ""
        train = f"loss {epoch.train['loss']:.5g}  " if epoch.train else ""
        mark = "  best so far" if best else ""
        head = f"{self.label}: epoch {epoch.epoch}/{self.epochs}"
        self.console.print(f"{head}  {train}held-out {epoch.heldout['loss']:.5g}{rate}{mark}", highlight=False)
