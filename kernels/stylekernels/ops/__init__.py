"""The operators, one folder each: `op`, its oracle `naive`, its CPU code and its Triton kernels."""
