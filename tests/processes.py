"""A copy of this process that runs a function: to be sent signals, to meet limits."""

import os
import time


class Forked:
    """A fork of this process, in a group of its own, that runs a function and ends.

    The function gets `say`, and what it says can be read line by line. An error that it raises
    is said last.
    """

    def __init__(self, function):
        reading, self.writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._run(function)
        os.close(self.writing)
        self.lines = os.fdopen(reading)

    def _run(self, function):
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = 1
        try:
            function(self.say)
            status = 0
        except BaseException as error:
            self.say(repr(error))
        finally:
            os._exit(status)

    def say(self, what):
        os.write(self.writing, f"{what}\n".encode())

    def read(self):
        return self.lines.readline().strip()

    def end(self):
        """Wait for the end; return the exit status and what else was said."""
        said = self.lines.read().splitlines()
        self.lines.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said


def wait_for_a_signal(seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    raise AssertionError("no signal came")
