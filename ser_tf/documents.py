"""JSON and YAML that may come from strangers: size and depth are checked before use."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ser_tf.errors import UserError, quoted, shortened

LARGEST_JSON_BYTES = 32_000_000
LARGEST_YAML_BYTES = 1_000_000
DEEPEST = 100
"""Nested lists and mappings."""
MOST_YAML_NODES = 100_000
"""Values of a YAML file; values that an alias repeats count again."""
LONGEST_YAML_VALUE = 3_000
"""Characters; a longer number takes minutes to parse, and Python refuses to write one of 4300 digits."""
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def read_json(path: Path, remedy: str, shape: Any = object) -> Any:
    """Read JSON.

    Args:
        path: the file.
        remedy: end of the error message.
        shape: required shape of the content, for `misfit`.

    Raises:
        UserError: the file is missing, damaged, too large, too deep, or has the wrong shape.
    """
    try:
        value = parse_json(read_bounded(path, LARGEST_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a readable JSON file; {remedy}") from error
    problem = misfit(value, shape)
    if problem:
        raise UserError(f"{path}: {problem}; {remedy}")
    return value


def parse_json(text: str) -> Any:
    """Read JSON from text.

    Raises:
        ValueError: it is not JSON, or too deep.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} levels") from error
    if _is_deeper(value, DEEPEST):
        raise ValueError(f"more than {DEEPEST} levels")
    return value


def read_yaml(path: Any, expected: str, loader: Any = SafeLoader) -> Any:
    """Read YAML.

    Args:
        path: the file, or a resource of a package.
        expected: what it should be, for the error message.
        loader: constructs the values.

    Raises:
        UserError: the file is missing, damaged, too large, or too deep, or its aliases repeat too much.
    """
    try:
        return parse_yaml(read_bounded(path, LARGEST_YAML_BYTES), loader)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected {expected}; {shortened(' '.join(str(error).split()))}") from error


def parse_yaml(text: str, loader: Any = SafeLoader) -> Any:
    """Read YAML from text.

    Raises:
        ValueError: it is not YAML, too deep, its aliases repeat too much, or a mapping has a name twice.
    """
    try:
        _bound(yaml.parse(text, SafeLoader))
        parser = loader(text)
        document = parser.get_single_node()
        _refuse_repeated_names(document)
        return None if document is None else parser.construct_document(document)
    except Exception as error:  # constructors of dates, numbers and tags raise many kinds
        raise ValueError(str(error) or "a value that its tag does not allow") from error


def read_bounded(path: Any, most_bytes: int) -> str:
    """The text of a file in UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, too large, or not in UTF-8.
    """
    if isinstance(path, Path):
        size = path.stat().st_size
        if not path.is_file():  # a device or a pipe may have no end
            raise ValueError("no regular file")
        if size > most_bytes:
            raise ValueError(f"{size:,} bytes, which is more than {most_bytes:,}")
    return path.read_text(encoding="utf-8")


def misfit(value: Any, shape: Any) -> str:
    """The first problem of a value compared with a shape; empty if it fits.

    Args:
        value: from JSON or YAML.
        shape: a type, where float includes int and bool is not a number; None; a tuple of alternative shapes; [shape]
            for a list; {str: shape} for a mapping with any names; or a mapping from required names to shapes.
    """
    if isinstance(shape, tuple):
        return "" if not all(misfit(value, one) for one in shape) else _unlike(value, shape)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _unlike(value, shape)
        return next((problem for item in value if (problem := misfit(item, shape[0]))), "")
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return _unlike(value, shape)
        if str in shape:
            return misfit(list(value.values()), [shape[str]])
        missing = [name for name in shape if name not in value]
        if missing:
            return f"expected {', '.join(shape)}. Received: no {missing[0]}"
        problems = ((name, misfit(value[name], one)) for name, one in shape.items())
        return next((f"{name}: {problem}" for name, problem in problems if problem), "")
    if shape is None or isinstance(value, bool):
        fits = value is None if shape is None else shape in (bool, object)
    else:
        fits = isinstance(value, int | float if shape is float else shape)
    return "" if fits else _unlike(value, shape)


def _unlike(value: Any, shape: Any) -> str:
    return f"expected {_in_words(shape)}. Received: {quoted(value)}"


def _in_words(shape: Any) -> str:
    if isinstance(shape, tuple):
        return " or ".join(map(_in_words, shape))
    if isinstance(shape, dict):
        return "a mapping of names" if str in shape else f"a mapping of {', '.join(shape)}"
    return "a list" if isinstance(shape, list) else _WORDS.get(shape, "null")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inside)


def _refuse_repeated_names(node: yaml.Node | None) -> None:
    """Raise a ValueError where a mapping has a name twice, of which YAML would keep the last without a word."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_names(item)
    elif isinstance(node, yaml.MappingNode):
        names = set[str]()
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                if name.value in names:
                    raise ValueError(f"{name.value} for the second time, in line {name.start_mark.line + 1}")
                names.add(name.value)
            _refuse_repeated_names(value)


def _bound(events: Iterable[yaml.Event]) -> None:
    """Raise a ValueError for too many or too deep values, before they are constructed."""
    sizes: dict[str, int] = {}  # values of each anchor
    open_nodes: list[tuple[str | None, int]] = []
    nodes = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} inside its own anchor, or before it")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, nodes))
            elif event.anchor:
                sizes[event.anchor] = 1
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_YAML_VALUE:
                raise ValueError(f"a value of {len(event.value):,} characters")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = 1 + nodes - before
        if nodes > MOST_YAML_NODES:
            raise ValueError(f"more than {MOST_YAML_NODES:,} values")
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
