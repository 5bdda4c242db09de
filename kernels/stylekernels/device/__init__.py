"""The Triton kernels and their launches. Imported by the first call that needs one."""
