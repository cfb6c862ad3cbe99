"""One door to the landmark networks: crops in, arrays out, on LiteRT or on torch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.networks.assets import landmark_network_path

Runtime = Literal["litert", "torch"]
Outputs = tuple[NDArray[np.float32], ...]


class Network(Protocol):
    """A network on square crops (N, S, S, 3) uint8 RGB, any N; outputs in the file's order."""

    size: int

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs: ...


def load_network(
    name: str, runtime: Runtime = "litert", device: str = "cpu", num_threads: int = 1
) -> Network:
    """The named network of `assets.NETWORK_FILES` on the chosen runtime.

    `device` is torch's; LiteRT runs on the CPU with `num_threads` threads.
    Raises AssetError if its file is absent, ValueError for a runtime or device that cannot be.
    """
    return open_network(landmark_network_path(name).read_bytes(), runtime, device, num_threads)


def open_network(
    content: bytes, runtime: Runtime = "litert", device: str = "cpu", num_threads: int = 1
) -> Network:
    """The same for the content of a TFLite file."""
    if runtime not in get_args(Runtime):
        raise ValueError(f"unknown runtime {runtime!r}: choose litert or torch")
    if runtime == "torch":
        return TorchNetwork(content, device)
    if device != "cpu":
        raise ValueError(f"runtime litert runs on the cpu, not on {device!r}: choose runtime torch")
    return LiteRtNetwork(content, num_threads)


class LiteRtNetwork:
    """A TFLite file on LiteRT (XNNPACK). Not for use from two threads at once.

    Crops go through one by one: measured no slower on few cores than a batch, which LiteRT would
    have to re-plan whenever the number of hands changes. Several crops are shared out among
    ``num_threads`` interpreters of one thread each, that take the next one when they are free:
    where other processes want the cores as well, twice as fast as one interpreter of several
    threads, which wait for each other after every layer. A single crop is left to such a one.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        self._workers = [_Interpreter(content, 1) for _ in range(num_threads)]
        self._alone = _Interpreter(content, num_threads) if num_threads > 1 else self._workers[0]
        self._pool = ThreadPoolExecutor(num_threads) if num_threads > 1 else None
        self.size = self._alone.size

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Outputs (N, ...) of crops (N, S, S, 3)."""
        results = tuple(np.empty((len(crops), *s), np.float32) for s in self._alone.output_shapes)
        rows = iter(range(len(crops)))
        if self._pool is None or len(crops) < 2:
            self._alone.run(crops, rows, results)
            return results
        # The iterator is shared: `next` of a range's is atomic, so each row is taken once.
        running = [self._pool.submit(w.run, crops, rows, results) for w in self._workers]
        for task in running:
            task.result()
        return results


class _Interpreter:
    """One interpreter, for one crop at a time."""

    def __init__(self, content: bytes, num_threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (source,) = self._interpreter.get_input_details()
        self._input = source["index"]
        outputs = self._interpreter.get_output_details()
        self._outputs = [output["index"] for output in outputs]
        self.output_shapes = [tuple(output["shape"][1:]) for output in outputs]
        self.size = int(source["shape"][1])

    def run(self, crops: NDArray[np.uint8], rows: Iterator[int], results: Outputs) -> None:
        """Write the outputs of those crops that ``rows`` gives into their rows of ``results``."""
        for row in rows:
            # straight into the interpreter's own memory; the view must be gone before invoke
            pixels = self._interpreter.tensor(self._input)()[0]
            np.multiply(crops[row], np.float32(1 / 255), out=pixels)
            del pixels
            self._interpreter.invoke()
            for result, index in zip(results, self._outputs, strict=True):
                result[row] = self._interpreter.tensor(index)()[0]


class TorchNetwork:
    """The same file as a torch module; `module` is there for gradients and features."""

    def __init__(self, content: bytes, device: str = "cpu") -> None:
        import torch

        from hand_mesh_ros.networks.tflite import load_tflite

        self._device = torch.device(device)
        self.module = load_tflite(content).eval().to(self._device)
        self.size = self.module.input_shape[1]

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Outputs (N, ...) of crops (N, S, S, 3)."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(crops).to(self._device).permute(0, 3, 1, 2)
            outputs = self.module(pixels.float() / 255)
        # maps as the file has them, channels last
        return tuple(
            (o.permute(0, 2, 3, 1) if o.ndim == 4 else o).contiguous().cpu().numpy()
            for o in outputs
        )
