"""Flags of the commands that train the runs of an experiment.

Tests: tests/cli/test_compare.py, tests/cli/test_scaling.py, tests/cli/test_transfer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from llm_scratch.cli.flags import ReportCommand, option

if TYPE_CHECKING:
    from llm_scratch.experiments.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class RunsCommand(ReportCommand):
    """Flags that choose where the runs are trained."""

    device: str = "auto"
    """auto, cpu, cuda, mps"""
    on: Annotated[str, option("here|local|slurm")] = "here"
    """where the runs are trained (default: here, one after the other);
    local: in several processes; slurm[:NAME=VALUE,...]: as Slurm jobs
    """
    jobs: Annotated[int | None, option("N")] = None
    """with --on: number of runs at the same time
    (default: for local, the fastest as measured, or one per GPU; for slurm, 2)
    """

    def cluster(self) -> Cluster | None:
        """Where the jobs of the experiment run; None: in this process, one after the other."""
        from llm_scratch.experiments.cluster import parse_cluster

        return parse_cluster(self.on, self.jobs, self.device, self.import_)
