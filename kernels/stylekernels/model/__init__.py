"""A cost model of kernels on a GPU that is not there: counted launches, bytes and operations."""
