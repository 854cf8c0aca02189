"""Simulate a Mac with an ARM processor: torch has no oneDNN, and /proc does not exist."""

import os
import platform
import sys
from types import ModuleType
from typing import Any

from hooks import Altered, after_import, for_our_code
from text_files import change_open

for_our_code("sys", Altered(sys, platform="darwin"))
for_our_code("os", Altered(os, "sched_getaffinity sched_setaffinity"))
platform.machine = lambda: "arm64"
platform.processor = lambda: "arm"
change_open(hidden=("/proc", "/sys"))


def change(torch: Any) -> None:
    torch.backends.mkldnn.is_available = lambda: False
    torch.ops.mkldnn = ModuleType("torch.ops.mkldnn")


after_import("torch", change)
