"""Whether a process is a worker that nobody waits for."""

from __future__ import annotations

import multiprocessing
import os


class Worker:
    """The process itself, if it is a worker of another one, as joblib's and multiprocessing's are.

    A search that was killed leaves its workers, which go on with the fits that they have. Run
    again it needs their folders.
    """

    def __init__(self) -> None:
        self.parent = None if multiprocessing.parent_process() is None else os.getppid()

    def is_orphaned(self) -> bool:
        """Whether the process that had started it has ended."""
        return self.parent is not None and os.getppid() != self.parent

    def end_if_orphaned(self) -> None:
        """Interrupt the fit if so.

        Raises
        ------
        KeyboardInterrupt
            If the process that had started this one has ended.
        """
        if self.is_orphaned():
            raise KeyboardInterrupt("The process that had started this worker has ended.")
