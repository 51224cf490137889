"""The autoencoder of a spec: its layers by name, in forward order, and one pass through all of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ae_core.spec import (
    Backbone,
    Bottleneck,
    Corruption,
    Likelihood,
    Norm,
    Penalty,
    Spec,
)
from parity_tests.oracle import bottleneck, corruption
from parity_tests.oracle.backbone import layers_of_decoder, layers_of_encoder
from parity_tests.oracle.bottleneck import Code, layers_of_bottleneck
from parity_tests.oracle.corruption import layer_of_corruption
from parity_tests.oracle.layer import Array, Arrays, Layer, Stateful, Tensors
from parity_tests.oracle.likelihood import layer_of_likelihood
from parity_tests.oracle.norm import layer_of_norm
from parity_tests.oracle.penalty import OfEncoder, Pull, Term, layer_of_penalty
from parity_tests.oracle.tree import Chain, Errors, Flow, Leaf, Node, Replay, Tape, forward

Images = Float[np.ndarray, "B H W C"]
Noise = Mapping[str, Float[np.ndarray, "B ..."]]
"""By site."""

LOSS = "loss"
"""Name of the likelihood's layer."""
PENALTY = "penalty"
"""Layers of penalties are named ``penalty.KIND``."""

DOORS: dict[type, tuple[Any, ...]] = {
    Backbone: (layers_of_encoder, layers_of_decoder),
    Norm: (layer_of_norm,),
    Bottleneck: (layers_of_bottleneck,),
    Likelihood: (layer_of_likelihood,),
    Corruption: (layer_of_corruption,),
    Penalty: (layer_of_penalty,),
}
"""By family."""


class Net(NamedTuple):
    """All layers of a spec, and how they are joined."""

    encoder: Node
    """From clean images to features; a corruption comes first."""
    code: Code
    decoder: Node
    loss: Layer
    penalties: dict[str, Term]
    """By kind; each of them is a layer."""
    of_encoder: dict[str, OfEncoder]
    """Penalties that call the encoder, by kind."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Layers from images to the decoder's output, in forward order."""
        return (*self.encoder.leaves, *self.code.node.leaves, *self.decoder.leaves)

    @property
    def layers(self) -> dict[str, Layer]:
        """All layers by name, in forward order."""
        penalties = {f"{PENALTY}.{kind}": term.layer for kind, term in self.penalties.items()}
        return {leaf.name: leaf.layer for leaf in self.leaves} | {LOSS: self.loss} | penalties


class Result(NamedTuple):
    """One training-mode pass, under the names that the twins' passes have."""

    taps: Arrays
    terms: Arrays
    gradients: Arrays
    state: Arrays


def net_of(spec: Spec) -> Net:
    """Return the net of a spec.

    Raises:
        MissingError: the oracle knows nothing of one of its components.
    """
    encoder = layers_of_encoder(spec.backbone, spec)
    if spec.corruption is not None:
        encoder = Chain((Leaf(corruption.NAME, layer_of_corruption(spec.corruption), output="encoder:in"), encoder))
    penalties = {part.kind: layer_of_penalty(part) for part in spec.penalties}
    return Net(
        encoder,
        layers_of_bottleneck(spec.bottleneck, spec.backbone.feature_shape(spec.input_shape)),
        layers_of_decoder(spec.backbone, spec),
        layer_of_likelihood(spec.likelihood),
        {kind: part for kind, part in penalties.items() if isinstance(part, Term)},
        {kind: part for kind, part in penalties.items() if not isinstance(part, Term)},
    )


def layers_of(spec: Spec) -> dict[str, Layer]:
    """Return every layer in forward order, under the name of its module; a block's own name is its activation's.

    Raises:
        MissingError: the oracle knows nothing of one of the spec's components.
    """
    return net_of(spec).layers


def without_oracle(spec: Spec) -> tuple[str, ...]:
    """Return the kinds of a spec's components of which the oracle knows nothing."""
    kinds = []
    for component in spec.components:
        doors = next((doors for family, doors in DOORS.items() if isinstance(component, family)), ())
        if any(door.dispatch(type(component)) is door.dispatch(object) for door in doors):
            kinds.append(component.kind)
    return tuple(dict.fromkeys(kinds))


def parameters_of(name: str, tensors: Tensors, images: Images, noise: Noise) -> Arrays:
    """Return a layer's own tensors under their last names, and the constants of a pass, all in float64."""
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    own = {key: value for key, value in own.items() if "." not in key}
    if name in noise:
        own["noise"] = noise[name]
    if name == LOSS or name.startswith(f"{PENALTY}."):
        own["images"] = images
    return {key: value.astype(np.float64) for key, value in own.items()}


def run(
    spec: Spec,
    tensors: Tensors,
    images: Images,
    noise: Noise,
    sides: Tensors | None = None,
    errors: Errors | None = None,
) -> Result:
    """Run forward and backward through all layers.

    Args:
        spec: what the layers are.
        tensors: parameters and state.
        images: one batch.
        noise: by site.
        sides: every module's output in another pass; their signs then say on which side of a kink each number is.
        errors: what the results of layers between images and the decoder's output are off by.

    Raises:
        MissingError: the oracle knows nothing of one of the spec's components.
    """
    net = net_of(spec)
    tape = Tape({name: parameters_of(name, tensors, images, noise) for name in net.layers}, {}, {}, {}, {}, errors)
    if sides is not None:
        for name, flow in flows(net, tape.parameters, sides, images).items():
            tape.parameters[name]["side"] = flow.value.astype(np.float64)
    code, terms, output = _forward(spec, net, tape, images)
    clean, pull = images.astype(np.float64), _pull(spec, net, tape)
    terms |= {kind: part.forward(pull, clean, spec.latent_size) for kind, part in net.of_encoder.items()}
    weights: dict[str, float] = {name: spec.last_coefficients.get(name, 0.0) for name in terms}
    terms[LOSS] = np.array(sum(weights[name] * value for name, value in terms.items()))
    _backward(net, tape, code["z"], weights)
    for kind, part in net.of_encoder.items():
        for name, gradient in part.backward(pull, clean, spec.latent_size).items():
            tape.gradients[name] = tape.gradients[name] + weights[kind] * gradient
    hidden = {leaf.name for leaf in net.leaves if leaf.shown != leaf.name}
    taps = {name: value for name, value in tape.outputs.items() if name not in hidden} | {"decoder": output}
    taps |= {f"{bottleneck.NAME}:{field}": value for field, value in code.items()}
    state = {
        f"{name}.{key}": value
        for name, layer in net.layers.items()
        if isinstance(layer, Stateful)
        for key, value in layer.running(tape.parameters[name], tape.inputs[name]).items()
    }
    return Result(taps, terms, tape.gradients, state)


def flows(net: Net, parameters: dict[str, Arrays], shown: Tensors, images: Images) -> dict[str, Flow]:
    """Return what comes to each layer between images and the decoder's output, in a twin that shows these outputs."""
    replay = Replay(parameters, shown, {})
    net.encoder.walk(replay, Flow(images, ()))
    net.code.node.walk(replay, Flow(shown["encoder"], ("encoder",)))
    net.decoder.walk(replay, Flow(shown[f"{bottleneck.NAME}:z"], (f"{bottleneck.NAME}:z",)))
    return replay.seen


def _forward(spec: Spec, net: Net, tape: Tape, images: Images) -> tuple[Arrays, Arrays, Array]:
    """Return the code's fields, terms, and the decoder's output; the features stand on the tape as those of encoder."""
    code, count = net.code, len(net.code.terms)
    features = forward(net.encoder, tape, images.astype(np.float64))
    tape.outputs["encoder"] = features.reshape(len(images), *spec.backbone.feature_shape(spec.input_shape))
    drawn = forward(code.node, tape, tape.outputs["encoder"])
    z, last = (drawn[:-count], drawn[-count:]) if count else (drawn, np.zeros(0))
    fields = {"z": z.reshape(len(images), *spec.latent_shape)}
    fields |= {name: tape.outputs[place] for name, place in code.fields.items()}
    output = forward(net.decoder, tape, fields["z"]).reshape(images.shape)
    tape.inputs[LOSS] = output
    terms = {"reconstruction": net.loss.forward(tape.parameters[LOSS], output)[0]}
    terms |= dict(zip(code.terms, last, strict=True))
    for kind, (source, layer) in net.penalties.items():
        name = f"{PENALTY}.{kind}"
        tape.inputs[name] = output if source == "output" else fields[source]
        terms[kind] = layer.forward(tape.parameters[name], tape.inputs[name])[0]
    return fields, {name: np.array(value) for name, value in terms.items()}, output


def _pull(spec: Spec, net: Net, tape: Tape) -> Pull:
    """Return a pass of its own through encoder and bottleneck, of clean images and without noise."""
    encoder = layers_of_encoder(spec.backbone, spec)
    # the sides of a pass of corrupted images say nothing of clean ones
    left_out = {"side"} if spec.corruption is not None else set()
    parameters = {
        name: {k: 0 * v if k == "noise" else v for k, v in own.items() if k not in left_out}
        for name, own in tape.parameters.items()
    }

    def pull(x: Array, dz: Array) -> tuple[Array, Arrays]:
        own = Tape(parameters, {}, {}, {}, {})
        features = forward(encoder, own, x).reshape(len(x), *spec.backbone.feature_shape(spec.input_shape))
        forward(net.code.node, own, features)
        dy = np.append(dz.ravel(), np.zeros(len(net.code.terms))) if net.code.terms else dz
        return encoder.backward(own, net.code.node.backward(own, dy)).reshape(x.shape), own.gradients

    return pull


def _backward(net: Net, tape: Tape, z: Array, weights: Mapping[str, float]) -> None:
    dy, _ = net.loss.backward(tape.parameters[LOSS], tape.inputs[LOSS], np.array([weights["reconstruction"]]))
    by_source: dict[str, Array] = {"output": dy}
    for kind, (source, layer) in net.penalties.items():
        name = f"{PENALTY}.{kind}"
        dx, _ = layer.backward(tape.parameters[name], tape.inputs[name], np.array([weights[kind]]))
        by_source[source] = by_source.get(source, 0.0) + dx
    dz = net.decoder.backward(tape, by_source["output"]).reshape(z.shape) + by_source.get("z", 0.0)
    tape.further.update({net.code.fields[name]: dx for name, dx in by_source.items() if name in net.code.fields})
    last = [weights[name] for name in net.code.terms]
    net.encoder.backward(tape, net.code.node.backward(tape, np.append(dz.ravel(), last) if last else dz))
