"""What the `hand-mesh` command prints: errors, progress, reports."""

from __future__ import annotations

from typing import Any, NoReturn

import typer


def print_report(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=str(report.get("source", "")))
    for name, value in report.items():
        if name in ("messages", "source") or value is None:
            continue
        if isinstance(value, dict) and "median" in value:
            value = "  ".join(f"{key} {number:g}" for key, number in value.items())
        table.add_row(name, str(value))
    Console().print(table)


class progress_bar:
    """A progress bar as a function (done, total, what); plain lines where there is no terminal."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Any:
        self._bar.start()

        def report(done: int, total: int, what: str) -> None:
            self._bar.update(self._task, completed=done, total=total, description=what)

        return report

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def fail(problem: object) -> NoReturn:
    typer.secho(f"hand-mesh: {problem}", err=True, fg=typer.colors.RED)
    raise typer.Exit(1)
