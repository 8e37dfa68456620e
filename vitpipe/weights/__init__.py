"""Weights of encoders from elsewhere: read, recognised by the names of their tensors, renamed to those of `ViT`.

No training depends on this code: the stage weights writes what it makes of a source, and training reads that.
"""
