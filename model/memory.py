"""Memory that was freed stays in the process, ready for the next request."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
LARGEST_FROM_HEAP = 32 << 20  # bytes; glibc takes no more
KEPT = 512 << 20  # bytes


def keep_freed_memory() -> bool:
    """Ask the C library not to hand freed memory back to the system after every tensor.

    By default glibc does, and the next request pages the same memory in anew: a lone history of
    100 items then takes about 15 % longer. Process-wide, so for whoever owns the process to call,
    before it starts the threads that compute; they share one heap from then on.

    Returns:
        whether there was anything to set: only glibc has these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_FROM_HEAP), (M_TRIM_THRESHOLD, KEPT), (M_ARENA_MAX, 1))
    done = [bool(mallopt(name, value)) for name, value in settings]
    return all(done)
