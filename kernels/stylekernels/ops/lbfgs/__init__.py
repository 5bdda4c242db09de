"""L-BFGS on the device, over one ring buffer of curvature pairs."""
