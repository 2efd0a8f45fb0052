import subprocess
import sys

import pytest

from gfnet_env.allocator import keep_freed_memory

FAULTS = """
import resource, torch
from gfnet_env.allocator import keep_freed_memory
torch.set_num_threads(1)
def faults():
    # Until what was freed has room for a block, the heap grows: by up to nine blocks.
    for _ in range(20):
        torch.zeros(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
keep_freed_memory()
print(given_back, faults())
"""


def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("not glibc")
    work = [sys.executable, "-c", FAULTS]
    said = subprocess.run(work, capture_output=True, text=True, check=True).stdout
    given_back, kept = map(int, said.split())
    # 64 MiB each, of which every page is new otherwise, or every huge page.
    assert kept < given_back / 4
