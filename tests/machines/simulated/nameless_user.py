"""Simulate a container whose user id has no line in /etc/passwd.

HOME is unset by the table of machines.
"""

import pwd
from typing import Any


def getpwuid(uid: int) -> Any:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


pwd.getpwuid = getpwuid
