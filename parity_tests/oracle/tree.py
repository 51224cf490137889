"""How layers make a net: a small tree that says where numbers go, forward and backward.

Most nets are made of `Chain`, `Fork`, `Residual` and `Shape`. One that needs more brings a node of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from parity_tests.oracle.layer import Array, Arrays, Layer


class Flow(NamedTuple):
    """Numbers on their way through a net."""

    value: np.ndarray
    ends: tuple[str, ...]
    """Where twins show the gradient of this value, in parts that lie side by side in the last axis."""


class Tape(NamedTuple):
    """What one pass leaves behind, by the names of layers and modules."""

    parameters: dict[str, Arrays]
    inputs: Arrays
    outputs: Arrays
    gradients: Arrays
    """By parameters, under their full names."""
    further: Arrays
    """Gradients of the loss by outputs of layers, beside those that come back through the net."""
    errors: "Errors | None" = None
    """What every layer's results are off by; nothing, where absent."""


@runtime_checkable
class Errors(Protocol):
    """Says what results of layers are off by."""

    def of_output(self, layer: Layer, p: Arrays, x: Array, y: Array) -> Array:
        """Return errors of an output."""
        ...

    def of_gradients(self, layer: Layer, p: Arrays, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return errors of the gradients by input and parameters."""
        ...


@runtime_checkable
class Visitor(Protocol):
    """Goes through a net in forward order."""

    def layer(self, leaf: "Leaf", flow: Flow) -> np.ndarray:
        """Return what a layer gives on of what comes to it."""
        ...

    def module(self, name: str, flow: Flow) -> None:
        """Look at what a module of several layers gives."""
        ...


@runtime_checkable
class Node(Protocol):
    """A layer, or several and how they are joined."""

    @property
    def leaves(self) -> "tuple[Leaf, ...]":
        """All layers, in forward order."""
        ...

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Have all layers visited in forward order and return what comes out."""
        ...

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Return the gradient by the input, after a forward pass; gradients by parameters go onto the tape."""
        ...


@dataclass(frozen=True)
class Leaf:
    """One layer."""

    name: str
    layer: Layer
    output: str | None = None
    """Where twins show its output, if it is no module of their own: under the name of the module that it ends, or as
    ``MODULE:in`` of the one that it goes into."""

    @property
    def leaves(self) -> "tuple[Leaf, ...]":
        """Return itself."""
        return (self,)

    @property
    def shown(self) -> str:
        """Where twins show its output and the gradient by it."""
        return self.output or self.name

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Return what the visitor says."""
        return Flow(visitor.layer(self, flow), (self.shown,))

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Return the layer's own gradient."""
        name, shape = self.name, tape.outputs[self.name].shape
        dy = dy.reshape(shape) + (tape.further[name].reshape(shape) if name in tape.further else 0.0)
        given = tape.parameters[name], tape.inputs[name], dy
        dx, gradients = self.layer.backward(*given)
        if tape.errors is not None:
            further, others = tape.errors.of_gradients(self.layer, *given)
            dx, gradients = dx + further, {key: value + others[key] for key, value in gradients.items()}
        tape.gradients.update({f"{name}.{key}": value for key, value in gradients.items()})
        return dx


@dataclass(frozen=True)
class Module:
    """Layers that are one module of the twins, under its name."""

    name: str
    node: Node

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Return those within."""
        return self.node.leaves

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Go through it, and show what comes out."""
        flow = self.node.walk(visitor, flow)
        visitor.module(self.name, flow)
        return flow

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Go through it."""
        return self.node.backward(tape, dy)


@dataclass(frozen=True)
class Chain:
    """One after the other; none is the identity."""

    nodes: tuple[Node, ...] = ()

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Return those of all nodes."""
        return tuple(leaf for node in self.nodes for leaf in node.leaves)

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Go through the nodes in order."""
        for node in self.nodes:
            flow = node.walk(visitor, flow)
        return flow

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Go through the nodes in reverse."""
        for node in reversed(self.nodes):
            dy = node.backward(tape, dy)
        return dy


@dataclass(frozen=True)
class Residual:
    """The sum of what a branch makes of the input and what a shortcut does, by default nothing."""

    branch: Node
    skip: Node = field(default_factory=Chain)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Return those of the branch, then those of the shortcut."""
        return (*self.branch.leaves, *self.skip.leaves)

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Add up; a sum's gradient is that of either part."""
        branch = self.branch.walk(visitor, flow)
        return Flow(branch.value + self.skip.walk(visitor, flow).value.reshape(branch.value.shape), branch.ends)

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Add up."""
        dx = self.branch.backward(tape, dy)
        return dx + self.skip.backward(tape, dy).reshape(dx.shape)


@dataclass(frozen=True)
class Fork:
    """What several nodes make of one input, side by side in the last axis."""

    nodes: tuple[Node, ...]
    widths: tuple[int, ...]
    """How many numbers each has there."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Return those of all nodes."""
        return tuple(leaf for node in self.nodes for leaf in node.leaves)

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Put outputs side by side."""
        flows = [node.walk(visitor, flow) for node in self.nodes]
        return Flow(np.concatenate([each.value for each in flows], -1), tuple(e for each in flows for e in each.ends))

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Cut the gradient up, and add what comes back."""
        parts = np.split(dy, np.cumsum(self.widths)[:-1], -1)
        return np.sum([node.backward(tape, part) for node, part in zip(self.nodes, parts, strict=True)], axis=0)


@dataclass(frozen=True)
class Shape:
    """The same numbers in another shape, ``[N, *shape]``; as rows, positions count as samples do."""

    shape: tuple[int, ...]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Return none."""
        return ()

    def walk(self, visitor: Visitor, flow: Flow) -> Flow:
        """Reshape."""
        return flow._replace(value=flow.value.reshape(-1, *self.shape))

    def backward(self, tape: Tape, dy: Array) -> Array:
        """Do nothing: every layer brings gradients into the shape of its own output."""
        return dy


class Forward(NamedTuple):
    """Runs the layers, and leaves on a tape what `Node.backward` needs, and outputs of modules."""

    tape: Tape

    def layer(self, leaf: Leaf, flow: Flow) -> np.ndarray:
        """Run it."""
        p, x = self.tape.parameters[leaf.name], flow.value
        y = leaf.layer.forward(p, x)
        if self.tape.errors is not None:
            y = y + self.tape.errors.of_output(leaf.layer, p, x, y)
        self.tape.inputs[leaf.name], self.tape.outputs[leaf.name] = x, y
        return y

    def module(self, name: str, flow: Flow) -> None:
        """Take its output down."""
        self.tape.outputs[name] = flow.value


class Replay(NamedTuple):
    """Has layers give the outputs that a twin shows; one that it does not show is run."""

    parameters: dict[str, Arrays]
    shown: Mapping[str, np.ndarray]
    seen: dict[str, Flow]
    """What comes to each layer."""

    def layer(self, leaf: Leaf, flow: Flow) -> np.ndarray:
        """Return its output in the twin."""
        self.seen[leaf.name] = flow
        if leaf.shown in self.shown:
            return self.shown[leaf.shown]
        return leaf.layer.forward(self.parameters[leaf.name], flow.value.astype(np.float64))

    def module(self, name: str, flow: Flow) -> None:
        """Look away."""


def forward(node: Node, tape: Tape, x: Array) -> Array:
    """Return what a net makes of x."""
    return node.walk(Forward(tape), Flow(x, ())).value
