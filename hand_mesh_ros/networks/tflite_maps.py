"""Feature maps as further outputs of a TFLite file: one pass answers and lets look inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema


def with_maps(path: Path, sizes: Sequence[int]) -> bytes:
    """The file with the narrowest feature map of each of `sizes` (pixels a side) added as outputs.

    In a network of inverted residuals, that is what its last addition at that size gives: wider
    maps before the next one are functions of it. Raises ValueError for a size that no addition has.
    """
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    graph = model.subgraphs[0]
    last: dict[int, int] = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.ADD:
            output = int(operator.outputs[0])
            last[int(graph.tensors[output].shape[1])] = output
    missing = set(sizes) - set(last)
    if missing:
        raise ValueError(f"{path.name} has no additions at {sorted(missing)} pixels a side")
    graph.outputs = [*map(int, graph.outputs), *(last[size] for size in sizes)]
    # LiteRT goes by the signature, where there is one, and would not know of the new outputs
    model.signatureDefs = None
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
