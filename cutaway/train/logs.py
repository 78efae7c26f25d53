"""The record of a run: `metrics.jsonl`, one line per event, and the same numbers for TensorBoard."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from cutaway.core.files import write_text


class RunLog:
    """Open for the length of a run; a resumed run drops what was logged after its checkpoint and goes on.

    Args:
        out: the run's folder.
        step: the step that the run goes on from.
        tensorboard: also write event files under `out/tensorboard`.
        kept: false: nothing is written (another process does).
    """

    def __init__(self, out: Path, step: int, tensorboard: bool = True, kept: bool = True):
        self._file: Any = None
        self._board: Any = None
        if not kept:
            return
        self.path = out / "metrics.jsonl"
        before = [line for line in read_lines(self.path) if line["step"] <= step] if step else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in before))
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, **values: Any) -> None:
        """One event; nested numbers (`gradient_norms`) get a name with a slash in TensorBoard."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items() if self._board else ():
            for path, number in (
                ((f"{name}/{k}", v) for k, v in value.items()) if isinstance(value, dict) else [(name, value)]
            ):
                self._board.add_scalar(path, number, step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events of a `metrics.jsonl`; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
