"""A disk that is full."""

import contextlib
import resource


@contextlib.contextmanager
def files_limited_to(size):
    """Inside, the kernel lets no file of this process grow past `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
