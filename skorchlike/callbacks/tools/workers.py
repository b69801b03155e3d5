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
        self.parent = multiprocessing.parent_process()

    def is_orphaned(self) -> bool:
        """Whether the process that had started it has ended: perhaps before this fit began."""
        if self.parent is None or os.getppid() == self.parent.pid:
            return False
        try:
            # under a fork server the numbers differ from the start; to ask is no good alone: a
            # forked sibling holds the pipe open
            return os.getppid() == 1 or not self.parent.is_alive()
        except ValueError:  # joblib's workers have nothing to ask
            return True

    def end_if_orphaned(self) -> None:
        """Interrupt the fit if so.

        Raises
        ------
        KeyboardInterrupt
            If the process that had started this one has ended.
        """
        if self.is_orphaned():
            raise KeyboardInterrupt("The process that had started this worker has ended.")
