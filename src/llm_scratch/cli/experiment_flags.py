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
    """Flags that say where the runs take place."""

    device: str = "auto"
    """auto, cpu, cuda, mps"""
    on: Annotated[str, option("here|local|slurm")] = "here"
    """one run after the other here; local: processes; slurm[:NAME=VALUE,...]: Slurm jobs"""
    jobs: Annotated[int | None, option("N")] = None
    """with --on, runs at a time (default: local as measured, one for each GPU; slurm 2)"""

    def cluster(self) -> Cluster | None:
        """What runs the runs; None: this process, one after the other."""
        from llm_scratch.experiments.cluster import parse_cluster

        return parse_cluster(self.on, self.jobs, self.device, self.import_)
