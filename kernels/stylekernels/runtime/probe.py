"""The smallest kernel, run to find out whether a GPU can run any."""

import torch
import triton
import triton.language as tl

from stylekernels.runtime.launch import Launch


@triton.jit
def probe_kernel(x, output, BLOCK: tl.constexpr):
    """Write the sum of BLOCK numbers."""
    tl.store(output, tl.sum(tl.load(x + tl.arange(0, BLOCK))))


def fault(device: torch.device) -> str:
    """Return why the kernel does not work on `device`, in one line; empty where it does."""
    total = torch.zeros((), device=device)
    arguments = {"x": torch.ones(16, device=device), "output": total}
    try:
        Launch(probe_kernel, (1,), arguments, {"BLOCK": 16}).run()
    except Exception as error:  # compilers and drivers raise what they like
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return "" if total.item() == 16.0 else "a sum came out wrong"
