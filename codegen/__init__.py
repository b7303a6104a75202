"""Loops, buffers and machine code: loop IR in, native kernels out. Knows nothing of tensors or gradients."""

OWNER = "tinyad"  # the distribution this package belongs to; `codegen` is a name others use too
