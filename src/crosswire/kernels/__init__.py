"""Cython declarations of the C kernels: ``from crosswire.kernels.book cimport cw_top``."""
