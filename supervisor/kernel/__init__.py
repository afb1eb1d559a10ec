"""System calls, one typed function each; the only package that uses ctypes."""
