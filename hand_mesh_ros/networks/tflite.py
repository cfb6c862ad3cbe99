"""TFLite files as torch modules: a small reader for float networks of convolutions.

The file says how its operators are wired and holds their weights; `load_tflite` turns it into one
`torch.nn.Module` that takes any batch size, runs on any device, and can be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import Tensor, nn

from hand_mesh_ros.networks import tflite_ops as ops

# where each of a file's dimensions (N, H, W, C) is in torch's (N, C, H, W)
_TORCH_DIM = (0, 2, 3, 1)
_OPERATORS = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
}
_ACTIVATIONS: dict[int, ops.Activation] = {
    schema.ActivationFunctionType.NONE: ops.identity,
    schema.ActivationFunctionType.RELU: torch.relu,
    schema.ActivationFunctionType.RELU6: torch.nn.functional.relu6,
}


class UnsupportedOperatorError(NotImplementedError):
    """The file needs an operator, or a form of one, that this reader does not have."""


def load_tflite(file: Path | bytes) -> TfliteModule:
    """The network of a TFLite file, or of its content, in float32, on the CPU.

    Raises UnsupportedOperatorError naming what the reader lacks, ValueError if it is no TFLite.
    """
    data, name = (file, "network") if isinstance(file, bytes) else (file.read_bytes(), file.name)
    if data[4:8] != b"TFL3":
        raise ValueError(f"{name} is not a TFLite file")
    return _Reader(schema.ModelT.InitFromPackedBuf(data), name).module()


@dataclass(frozen=True)
class Step:
    """One operator: reads the values numbered `inputs`, makes value `output`."""

    operator: nn.Module
    inputs: tuple[int, ...]
    output: int


class TfliteModule(nn.Module):
    """The network of a TFLite file; see `load_tflite`.

    input_shape: (1, H, W, C) as the file has it; the module takes (N, C, H, W).
    """

    def __init__(
        self, steps: Sequence[Step], source: int, outputs: Sequence[int], shape: Sequence[int]
    ) -> None:
        super().__init__()
        self.operators = nn.ModuleList(step.operator for step in steps)
        self.input_shape = tuple(shape)
        self._source = source
        self._outputs = tuple(outputs)
        self._plan = _plan(steps, self._outputs)
        self._trunks = tuple(
            step.inputs for step in steps if isinstance(step.operator, ops.SpatialMean)
        )
        self._trunk_plan = _plan(steps, self._trunks[0]) if len(self._trunks) == 1 else []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the file's order, each (N, ...), of an input (N, C, H, W)."""
        return self._run(x, self._plan, self._outputs)

    def features(self, x: Tensor) -> Tensor:
        """What the network's one spatial mean averages: the trunk's features (N, C, H, W).

        Raises ValueError if the network has no such mean, or several.
        """
        self._check_trunk()
        return self._run(x, self._trunk_plan, self._trunks[0])[0]

    def trunk(self) -> TfliteModule:
        """The network up to that mean alone: its one output is `features`; parameters are shared.

        Raises ValueError as `features` does.
        """
        self._check_trunk()
        steps = [Step(self.operators[n], read, made) for n, read, made, _ in self._trunk_plan]
        return TfliteModule(steps, self._source, self._trunks[0], self.input_shape)

    def _check_trunk(self) -> None:
        if len(self._trunks) != 1:
            raise ValueError(f"no single trunk: the network has {len(self._trunks)} spatial means")

    def _run(self, x: Tensor, plan: list[_Planned], wanted: tuple[int, ...]) -> tuple[Tensor, ...]:
        values = {self._source: x}
        for number, inputs, output, spent in plan:
            values[output] = self.operators[number](*(values[i] for i in inputs))
            for value in spent:
                del values[value]
        return tuple(values[value] for value in wanted)


# number of the operator, its inputs, its output, and the values nobody reads after it
_Planned = tuple[int, tuple[int, ...], int, tuple[int, ...]]


def _plan(steps: Sequence[Step], wanted: tuple[int, ...]) -> list[_Planned]:
    """The steps that `wanted` needs, in order; each frees what is read for the last time."""
    plan: list[_Planned] = []
    alive = set(wanted)
    for number, step in reversed(list(enumerate(steps))):
        if step.output in alive:
            spent = tuple(sorted(set(step.inputs) - alive))
            alive.update(step.inputs)
            plan.append((number, step.inputs, step.output, spent))
    return plan[::-1]


class _Reader:
    """Builds the module of one parsed file."""

    def __init__(self, model: Any, name: str) -> None:
        if len(model.subgraphs) != 1:
            raise UnsupportedOperatorError(f"{name}: {len(model.subgraphs)} subgraphs, not one")
        self._model, self._graph, self._name = model, model.subgraphs[0], name
        self._constants: dict[int, NDArray[Any]] = {}
        self._builders: dict[str, Callable[[Any, Any], nn.Module]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise_conv,
            "FULLY_CONNECTED": self._linear,
            "PRELU": self._prelu,
            "ADD": self._add,
            "MAX_POOL_2D": self._max_pool,
            "PAD": self._pad,
            "RESIZE_BILINEAR": self._resize,
            "MEAN": self._mean,
            "RESHAPE": self._reshape,
            "CONCATENATION": self._concat,
            "LOGISTIC": lambda op, options: ops.Logistic(),
        }

    def module(self) -> TfliteModule:
        steps = []
        for op in self._graph.operators:
            code = self._model.operatorCodes[op.opcodeIndex]
            # files older than schema 3a have the code in the deprecated field only
            kind = _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if kind == "DEQUANTIZE":
                # stored as 16 bits to save space; arithmetic is in float32
                self._constants[op.outputs[0]] = self._constant(op.inputs[0]).astype(np.float32)
                continue
            if kind not in self._builders:
                raise UnsupportedOperatorError(f"{self._name}: operator {kind} is not supported")
            inputs = tuple(int(i) for i in op.inputs if i >= 0 and not self._is_constant(i))
            operator = self._builders[kind](op, op.builtinOptions)
            steps.append(Step(operator, inputs, int(op.outputs[0])))
        source = int(self._graph.inputs[0])
        outputs = [int(i) for i in self._graph.outputs]
        return TfliteModule(steps, source, outputs, self._shape(source))

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._graph.tensors[tensor].shape)

    def _is_constant(self, tensor: int) -> bool:
        buffer = self._model.buffers[self._graph.tensors[tensor].buffer]
        return tensor in self._constants or buffer.data is not None

    def _constant(self, tensor: int) -> NDArray[Any]:
        if tensor not in self._constants:
            info = self._graph.tensors[tensor]
            data = self._model.buffers[info.buffer].data
            if data is None or info.type not in _DTYPES:
                raise UnsupportedOperatorError(
                    f"{self._name}: {info.name!r} is not a constant of 16 or 32 bits"
                )
            flat = np.frombuffer(data, _DTYPES[info.type])
            self._constants[tensor] = flat.reshape(self._shape(tensor))
        return self._constants[tensor]

    def _weight(self, op: Any, place: int) -> Tensor:
        # a copy: the parameter must not share memory with the file's bytes
        return torch.tensor(self._constant(op.inputs[place]), dtype=torch.float32)

    def _bias(self, op: Any) -> Tensor | None:
        return self._weight(op, 2) if len(op.inputs) > 2 and op.inputs[2] >= 0 else None

    def _activation(self, options: Any) -> ops.Activation:
        kind = options.fusedActivationFunction
        if kind not in _ACTIVATIONS:
            raise UnsupportedOperatorError(f"{self._name}: fused activation {kind}")
        return _ACTIVATIONS[kind]

    def _conv(self, op: Any, options: Any) -> nn.Module:
        weight = self._weight(op, 1).permute(0, 3, 1, 2).contiguous()  # from (O, kh, kw, I)
        return self._convolution(op, options, weight, groups=1)

    def _depthwise_conv(self, op: Any, options: Any) -> nn.Module:
        weight = self._weight(op, 1).permute(3, 0, 1, 2).contiguous()  # from (1, kh, kw, O)
        return self._convolution(op, options, weight, groups=self._shape(op.inputs[0])[3])

    def _convolution(self, op: Any, options: Any, weight: Tensor, groups: int) -> nn.Module:
        return ops.Conv(
            weight,
            self._bias(op),
            groups,
            stride=(options.strideH, options.strideW),
            dilation=(options.dilationHFactor, options.dilationWFactor),
            same=options.padding == schema.Padding.SAME,
            activation=self._activation(options),
        )

    def _linear(self, op: Any, options: Any) -> nn.Module:
        return ops.Linear(self._weight(op, 1), self._bias(op), self._activation(options))

    def _prelu(self, op: Any, options: Any) -> nn.Module:
        slope = self._weight(op, 1)
        if slope.numel() != slope.shape[-1]:
            raise UnsupportedOperatorError(f"{self._name}: PRELU slopes {tuple(slope.shape)}")
        return ops.PRelu(slope.flatten())

    def _add(self, op: Any, options: Any) -> nn.Module:
        if self._shape(op.inputs[0]) != self._shape(op.inputs[1]) or any(
            self._is_constant(i) for i in op.inputs
        ):
            raise UnsupportedOperatorError(f"{self._name}: ADD with a constant or of two shapes")
        return ops.Add(self._activation(options))

    def _max_pool(self, op: Any, options: Any) -> nn.Module:
        return ops.MaxPool(
            kernel=(options.filterHeight, options.filterWidth),
            stride=(options.strideH, options.strideW),
            same=options.padding == schema.Padding.SAME,
            activation=self._activation(options),
        )

    def _pad(self, op: Any, options: Any) -> nn.Module:
        height, width, channels = self._constant(op.inputs[1]).tolist()[1:]
        return ops.Pad((*width, *height, *channels))

    def _resize(self, op: Any, options: Any) -> nn.Module:
        if not (options.halfPixelCenters or options.alignCorners):
            raise UnsupportedOperatorError(f"{self._name}: RESIZE_BILINEAR in its legacy form")
        height, width = self._constant(op.inputs[1]).tolist()
        return ops.Resize((height, width), bool(options.alignCorners))

    def _mean(self, op: Any, options: Any) -> nn.Module:
        axes = sorted(self._constant(op.inputs[1]).ravel().tolist())
        if axes != [1, 2] or options.keepDims or len(self._shape(op.inputs[0])) != 4:
            raise UnsupportedOperatorError(f"{self._name}: MEAN over axes {axes}")
        return ops.SpatialMean()

    def _reshape(self, op: Any, options: Any) -> nn.Module:
        source, result = self._shape(op.inputs[0]), self._shape(op.outputs[0])
        if len(source) != 4 or len(result) == 4 or source[0] != result[0]:
            raise UnsupportedOperatorError(f"{self._name}: RESHAPE from {source} to {result}")
        return ops.Flatten(result[1:])

    def _concat(self, op: Any, options: Any) -> nn.Module:
        dims = len(self._shape(op.inputs[0]))
        axis = options.axis % dims
        return ops.Concat(_TORCH_DIM.index(axis) if dims == 4 else axis, self._activation(options))
