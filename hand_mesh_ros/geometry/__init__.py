"""Rotations, cameras, crops, triangulation and alignment: pure NumPy functions."""
