"""Small edits of ONNX graphs that the exporter and the quantiser share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MICROSOFT = "com.microsoft"


class GraphEditor:
    """A model under edit: constants by name, and nodes replaced in place.

    Works on a copy. Node names must be unique, as exporters make them.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Start from a copy of `model`."""
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        if not any(opset.domain == MICROSOFT for opset in self.model.opset_import):
            self.model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
        self._constants = {item.name: item for item in self.model.graph.initializer}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, in order."""
        return list(self.model.graph.node)

    def has_constant(self, name: str) -> bool:
        """Return whether `name` is a constant of the graph."""
        return name in self._constants

    def constant(self, name: str) -> NDArray[Any]:
        """Return the value of a constant."""
        value: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return value

    def add_constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """Add a constant, C-ordered, and return its name."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        item = numpy_helper.from_array(array, name)
        self._constants[name] = item
        self.model.graph.initializer.append(item)
        return name

    def consumers(self, output: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value."""
        return [node for node in self.model.graph.node if output in node.input]

    def producer(self, output: str) -> onnx.NodeProto | None:
        """Return the node that makes a value, None for constants and inputs."""
        return next((node for node in self.model.graph.node if output in node.output), None)

    def rewrite(self, replace: Callable[[onnx.NodeProto], Iterable[onnx.NodeProto] | None]) -> None:
        """Replace each node by what `replace` gives for it; None keeps it, nothing removes it."""

        def rewritten() -> Iterator[onnx.NodeProto]:
            for node in self.nodes:
                fresh = replace(node)
                yield from [node] if fresh is None else fresh

        nodes = list(rewritten())
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)

    def finish(self) -> onnx.ModelProto:
        """Return the model without the nodes and constants that no output needs."""
        graph = self.model.graph
        needed = {output.name for output in graph.output}
        kept: list[onnx.NodeProto] = []
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        kept.reverse()
        del graph.node[:]
        graph.node.extend(kept)
        constants = [item for item in graph.initializer if item.name in needed]
        del graph.initializer[:]
        graph.initializer.extend(constants)
        # Shapes inferred for values that are gone would make the checker refuse the graph.
        del graph.value_info[:]
        onnx.checker.check_model(self.model)
        return self.model
