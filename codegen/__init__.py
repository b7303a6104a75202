"""Loops, buffers and machine code: loop IR in, native kernels out. Knows nothing of tensors or gradients."""
