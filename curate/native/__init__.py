"""Compiled code: numba loops, LLVM intrinsics, BLAKE2b and matrix products built on them."""
