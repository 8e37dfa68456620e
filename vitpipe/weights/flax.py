"""Google's files: arrays of Flax, with slashes in their names and matrices the other way round.

Shapes: d embedding dimension, h heads, e = d / h.
"""

from torch import Tensor

STACKED = "encoderblock"  # with all blocks in one array, along its first axis


def from_flax(arrays: dict[str, Tensor]) -> tuple[dict[str, Tensor], int | None]:
    """Tensors with dots in their names, in the layout of torch, and the number of heads where a shape tells it.

    Kernels (height, width, in, out) of convolutions, (d, h, e) of queries, keys and values, (h, e, d) of the output
    projection and (in, out) of other layers become weights.
    """
    blocks: dict[str, Tensor] = {}
    for name, array in arrays.items():
        parts = name.split("/")
        if STACKED in parts:
            for i, one in enumerate(array):
                blocks["/".join(f"{part}_{i}" if part == STACKED else part for part in parts)] = one
        else:
            blocks[name] = array
    tensors, heads = {}, None
    for name, array in blocks.items():
        *outer, parent, leaf = ["", "", *name.split("/")]
        if leaf == "kernel" and array.ndim == 3:
            if parent == "query" and "encoderblock" in name:
                heads = array.shape[1]
            array = (array.flatten(0, 1) if parent == "out" else array.flatten(1)).T
        elif leaf == "kernel" and array.ndim in (2, 4):
            array = array.permute(3, 2, 0, 1) if array.ndim == 4 else array.T
        elif leaf == "bias":
            array = array.flatten()
        leaf = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
        tensors[".".join(part for part in (*outer, parent, leaf) if part)] = array
    return tensors, heads
