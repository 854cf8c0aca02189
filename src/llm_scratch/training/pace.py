"""The pace of a run that is being trained: elapsed time, and time left.

Tests: tests/training/test_pace.py.
"""

from __future__ import annotations

from time import perf_counter


class Pace:
    """The clock of a run.

    Args:
        first_step: number of steps that are done when the run begins or resumes.
    """

    def __init__(self, first_step: int = 0) -> None:
        self.first_step = first_step
        self._began = self._steps_began = perf_counter()

    def evaluated(self, step: int) -> None:
        """Start to time the steps, if this evaluation precedes the first one.

        It may take as long as a thousand steps, and is not repeated with every step.
        """
        if step == self.first_step:
            self._steps_began = perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return perf_counter() - self._began

    def seconds_a_step(self, step: int) -> float:
        """Seconds per step so far, with the evaluations between steps; 0 before the first step."""
        done = step - self.first_step
        return (perf_counter() - self._steps_began) / done if done else 0.0
