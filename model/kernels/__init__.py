"""Our own processor code for serving: products, attention and whole blocks, written in C.

`python -m model.kernels` compiles it (build.py); library.py finds and calls it. Without it, torch
computes the same.
"""
