"""The selective scan on a CPU: kernels compiled by Numba, sixteen channels to a vector."""
