"""What a run logged, epoch by epoch, across resumed sessions: `history.csv` and `curves.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from hand_mesh_ros.training.curves import draw_curves, read_history, write_history


class History(Callback):
    """Keeps a row an epoch in the folder `out`: means of `train_*` over its steps, and `val_*`.

    Lightning's own log begins anew with every session; these rows are part of the checkpoints, so
    that a resumed run has those of the epochs that it goes on from, and no others.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._rows: list[dict[str, float]] = []
        self._sums: dict[str, Any] = {}
        self._steps = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._sums, self._steps = {}, 0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._steps += 1
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train_"):
                self._sums[name] = self._sums.get(name, 0) + value.detach().double()

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
        row |= {name: float(total) / self._steps for name, total in self._sums.items()}
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val_"):
                row[name] = float(value)
        self._rows.append(row)
        if trainer.is_global_zero:
            write_history(self._rows, self._out)

    def on_fit_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.is_global_zero and self._rows:
            draw_curves(read_history(self._out), self._out / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rows = list(state["rows"])
