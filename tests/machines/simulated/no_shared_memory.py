"""A container or cloud function without /dev/shm: semaphores and shared memory fail."""

import _multiprocessing
import _posixshmem
from typing import Any

from hooks import after_import


def refuse(*args: Any, **options: Any) -> Any:
    raise OSError(38, "Function not implemented")


def change(torch: Any) -> None:
    def refuse_tensor(*args: Any, **options: Any) -> Any:
        raise RuntimeError(
            "unable to open shared memory object </torch_1_2_3> in read-write mode:"
            " No such file or directory (2)"
        )

    torch.UntypedStorage._share_fd_cpu_ = refuse_tensor
    torch.UntypedStorage._share_filename_cpu_ = refuse_tensor


class SemLock(_multiprocessing.SemLock):
    __new__ = refuse


_multiprocessing.SemLock = SemLock
_posixshmem.shm_open = refuse
after_import("torch", change)
