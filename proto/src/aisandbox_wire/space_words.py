"""What a space is, in words, for messages. Must not know which spaces fit each other."""

from __future__ import annotations

from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.spaces import Leaf, leaves


def form_of(space: pb.Space) -> str:
    """Kind, dtype and shape of the space or of each entry of a Dict, without bounds and names: ``Box float32 [4]``.

    Raises InvalidSpace.
    """
    return ", ".join(f"{f'{leaf.key!r}: ' if leaf.key else ''}{_words(leaf)}" for leaf in leaves(space))


def _words(leaf: Leaf) -> str:
    if leaf.kind == "discrete":
        return f"Discrete with {leaf.n} values from {leaf.start}"
    if leaf.nvec is not None:
        return f"MultiDiscrete {leaf.nvec.tolist()}"
    return f"{'Box' if leaf.kind == 'box' else 'MultiBinary'} {leaf.dtype.name} {list(leaf.shape)}"
