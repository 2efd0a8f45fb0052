"""How the C library treats memory that is freed."""

import ctypes
import platform

# Parameters of glibc's mallopt, and values under which it keeps what is freed.
_KEEP = {
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_TOP_PAD": (-2, 2**26),
    "M_MMAP_THRESHOLD": (-3, 2**30),
}


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for later, for the rest of the process.

    By default glibc gives large blocks back to the system at once, and every layer of an encoder
    asks for them anew. On a CPU, the page faults of ``tf_efficientnet_lite0`` then take a third of
    the time. Commands call this; a program that embeds the library may.

    Returns:
        Whether this C library can; others are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in _KEEP.values())
