"""One graph for each step of an exported network, joined from the graphs of its parts."""

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper
from onnx.compose import add_prefix
from onnx.numpy_helper import from_array

# What a step answers for all of its pictures.
ANSWER = ("probabilities", "certainty")
# What a policy decides.
DECISION = ("location", "scale", "stop", "box")
# Begin the names of what belongs to the pictures that go on, and to none.
_GOING, _NOBODY = "going/", "nobody/"


def join_steps(
    parts: Mapping[str, ModelProto], policies: Mapping[str, ModelProto]
) -> dict[str, ModelProto]:
    """Join what is known after a view and where to look next: one graph for each step.

    A step takes what its part takes, and ``threshold``, a number. It gives the ``ANSWER`` for its
    B pictures. For those whose certainty is below the threshold it also gives the ``DECISION`` and
    what the next step takes, under names that begin with ``next_``; where all are sure, nothing is
    computed for that.

    Args:
        parts: What is known after the ``glance`` and after a ``focus``.
        policies: What is decided after each of them.
    """
    kept = _kept(parts["focus"].graph, policies["focus"].graph)
    return {name: _joined(part, policies[name], kept) for name, part in parts.items()}


def pruned(
    parts: Mapping[str, ModelProto], policies: Mapping[str, ModelProto]
) -> dict[str, ModelProto]:
    """The parts without what ``join_steps`` would not use of them."""
    kept = _kept(parts["focus"].graph, policies["focus"].graph)
    found = {}
    for name, part in parts.items():
        graph = part.graph
        outputs = {*ANSWER, *_after(graph, policies[name].graph, kept).values()}
        nodes, used = needed(graph, outputs)
        less = helper.make_graph(
            nodes,
            graph.name,
            [each for each in graph.input if each.name in used],
            [each for each in graph.output if each.name in outputs],
            [each for each in graph.initializer if each.name in used],
        )
        found[name] = helper.make_model(
            less, opset_imports=part.opset_import, ir_version=part.ir_version
        )
    return found


def needed(graph: GraphProto, wanted: Iterable[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that compute some values, in order, and the names of all values they use."""
    nodes: list[NodeProto] = []
    names = set(wanted)
    for node in reversed(graph.node):
        if names & set(node.output):
            nodes.append(node)
            names |= _taken(node)
    return nodes[::-1], names


def _taken(node: NodeProto) -> set[str]:
    """Names of what a node takes, and of what graphs within it take and make."""
    names = set(node.input)
    for inner in (each.g for each in node.attribute if each.HasField("g")):
        names |= {each.name for each in inner.output}
        names = names.union(*map(_taken, inner.node))
    return names


def _kept(focus: GraphProto, policy: GraphProto) -> set[str]:
    """What a look and those after it take, besides pixels."""
    takes = {each.name for each in (*focus.input, *policy.input)} - {"pixels"}
    kept: set[str] = set()
    while True:
        _, names = needed(focus, [*ANSWER, *_after(focus, policy, kept).values()])
        if names & takes == kept:
            return kept
        kept = names & takes


def _after(part: GraphProto, policy: GraphProto, kept: set[str]) -> dict[str, str]:
    """What is shown to the policy or passed on by a step, and how the part calls it."""
    _, seen = needed(policy, _outputs(policy).values())
    shown = {each.name for each in policy.input} & seen
    outputs = _outputs(part)
    passed = kept - _outputs(policy).keys()
    return {name: outputs.get(name, name) for name in sorted(shown | passed)}


def _outputs(graph: GraphProto) -> dict[str, str]:
    """How a graph calls its outputs, where they may not have the name of an input."""
    return {each.name.removeprefix("new_"): each.name for each in graph.output}


def _joined(part: ModelProto, policy: ModelProto, kept: set[str]) -> ModelProto:
    """A step, after which the pictures that go on keep ``kept``."""
    graph, after = part.graph, _after(part.graph, policy.graph, kept)
    answering, _ = needed(graph, ANSWER)
    nodes, used = needed(graph, [*ANSWER, *after.values()])
    made = {name for node in nodes for name in node.output}
    # A policy's own names would meet those of the part.
    decision, decided = add_prefix(policy, _GOING), _outputs(policy.graph)
    infos = (*policy.graph.input, *graph.input, *graph.output, *policy.graph.output)
    types = {each.name: each.type for each in infos}
    outputs = {name: types[decided.get(name) or after[name]] for name in sorted({*kept, *DECISION})}
    going_on = helper.make_graph(
        [
            *(node for node in nodes if node not in answering),
            *(
                helper.make_node("Compress", [value, "going"], [_GOING + name], axis=0)
                for name, value in after.items()
            ),
            *decision.graph.node,
        ],
        "going_on",
        [],
        [_some_rows(_GOING + decided.get(name, name), kind) for name, kind in outputs.items()],
        decision.graph.initializer,
    )
    nobody = helper.make_graph(
        [
            helper.make_node("Constant", [], [_NOBODY + name], value=_no_rows(kind))
            for name, kind in outputs.items()
        ],
        "nobody",
        [],
        [_some_rows(_NOBODY + name, kind) for name, kind in outputs.items()],
    )
    step = helper.make_graph(
        [
            *answering,
            helper.make_node("GreaterOrEqual", ["certainty", "threshold"], ["sure"]),
            helper.make_node("Not", ["sure"], ["going"]),
            helper.make_node("ReduceMax", ["going"], ["any"], keepdims=0),
            helper.make_node(
                "If",
                ["any"],
                [f"next_{name}" for name in outputs],
                then_branch=going_on,
                else_branch=nobody,
            ),
        ],
        graph.name,
        [
            *(
                helper.make_value_info(name, types[name])
                for name in dict.fromkeys(each.name for each in (*graph.input, *policy.graph.input))
                if name in used - made
            ),
            helper.make_tensor_value_info("threshold", TensorProto.FLOAT, []),
        ],
        [
            *(helper.make_value_info(name, types[name]) for name in ANSWER),
            *(_some_rows(f"next_{name}", kind) for name, kind in outputs.items()),
        ],
        [each for each in graph.initializer if each.name in used],
    )
    versions = {each.domain: each for each in (*policy.opset_import, *part.opset_import)}
    return helper.make_model(
        step, opset_imports=list(versions.values()), ir_version=part.ir_version
    )


def _no_rows(kind: TypeProto) -> TensorProto:
    """A tensor like those of a type, but without rows."""
    tensor = kind.tensor_type
    shape = [0, *(each.dim_value for each in tensor.shape.dim[1:])]
    return from_array(np.zeros(shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def _some_rows(name: str, kind: TypeProto) -> ValueInfoProto:
    """An output of a type, with rows for some pictures of the batch."""
    tensor = kind.tensor_type
    shape = ["going", *(each.dim_value for each in tensor.shape.dim[1:])]
    return helper.make_tensor_value_info(name, tensor.elem_type, shape)
