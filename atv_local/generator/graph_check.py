"""Looks through an ONNX graph before ONNX Runtime sees it: what repeats, or is defined in the file, is refused.

Walks the protobuf encoding (onnx.proto3) and copies only names; a length past its end is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_LOOPS = frozenset({b"Loop", b"Scan", b"SequenceMap"})
_MAX_DEPTH = 4
"""Graphs within graphs. Exports of DeBERTa have an `If`, which is one."""
_MAX_NODES = 100_000
"""A generator of 24 blocks has about 2,000."""


def check_graph(data: bytes) -> None:
    """Look through a serialised ModelProto.

    Raises:
        ValueError: no protobuf message, a loop, a function of its own, or graphs nested too deep.
    """
    nodes = 0
    pending = []
    for field, value in _fields(memoryview(data)):
        if field == _MODEL_FUNCTIONS:
            raise ValueError("it defines functions of its own")
        if field == _MODEL_GRAPH:
            pending.append((value, 1))
    while pending:
        graph, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"its graphs are nested deeper than {_MAX_DEPTH}")
        for field, node in _fields(graph):
            if field == _GRAPH_NODE:
                nodes += 1
                if nodes > _MAX_NODES:
                    raise ValueError(f"it has more than {_MAX_NODES} nodes")
                pending += [(inner, depth + 1) for inner in _subgraphs(node)]


def _subgraphs(node: memoryview) -> Iterator[memoryview]:
    for field, value in _fields(node):
        if field == _NODE_OPERATOR and bytes(value) in _LOOPS:
            raise ValueError(f"it has a {bytes(value).decode()}, which can repeat without end")
        if field == _NODE_ATTRIBUTE:
            yield from (inner for kind, inner in _fields(value) if kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every field that has a length; numbers are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(message, at)
        if size is None or size > len(message) - at:
            raise ValueError("it is not an ONNX graph, or cut off")
        if kind == 2:
            yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it is not an ONNX graph, or cut off")
