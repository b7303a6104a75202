"""From a canonical graph to kernels: which values are stored, which kernel computes what, in which order."""
