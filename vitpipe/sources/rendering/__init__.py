"""Portraits drawn from random numbers: who it is, how the picture was taken, and the drawing itself.

`picture.render(seed, index)` is all that the rest of the package needs.
"""
