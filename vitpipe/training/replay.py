"""Steps as CUDA graphs: hundreds of small kernels that are launched as one (Nvidia's CUDA guide, "CUDA Graphs")."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EAGER = 3  # calls before the graph is recorded, in which optimisers make their state and libraries choose kernels


class Replayed:
    """A function of tensors on a CUDA device, whose kernels are recorded once and then only repeated.

    The function must do the same whatever values its inputs have: no transfer to the CPU, no random numbers, inputs of
    the same shapes and types, and all else that it reads or changes at the same place in memory. What it returns is
    overwritten by the next call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.graph = function, 0, torch.cuda.CUDAGraph()
        self.stream = torch.cuda.Stream()
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls += 1
        if self.calls <= EAGER:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                found = self.function(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return found
        if self.calls == EAGER + 1:
            self.inputs = tuple(torch.empty_like(tensor) for tensor in inputs)
            with torch.cuda.graph(self.graph):
                self.outputs = self.function(*self.inputs)
        for own, new in zip(self.inputs, inputs, strict=True):
            assert own.shape == new.shape, f"recorded for {own.shape}, not {new.shape}"
            own.copy_(new)
        self.graph.replay()
        return self.outputs
