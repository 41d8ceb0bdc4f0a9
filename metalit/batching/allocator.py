"""A setting of the C library's allocator, without which training on a CPU waits for memory."""

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it has freed, for its next tensors.

    A training step frees hundreds of large tensors and asks for as many in the next step. By
    default glibc hands the memory back to the system in between, and every page is mapped and
    cleared again when it is first touched, which takes longer than the arithmetic on it. Resident
    memory then stays near its peak. Elsewhere than on glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)  # what has mappings of its own is unmapped when it is freed
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
