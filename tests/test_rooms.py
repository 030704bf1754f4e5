"""Imports point one way along the line; the table is that of docs/architecture.md."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ser_tf

PACKAGE = Path(ser_tf.__file__).parent
GROUND = {"config", "documents", "errors"}
"""Every room may know its parameters, how a file of a stranger is read, and what a user can cause."""

LINE = {
    "spelling",
    "runs",
    "strategies",
    "audio",
    "corpora",
    "pipeline",
    "network",
    "metrics",
    "pairwise_svm",
    "classifier",
}
"""From a recording to an emotion, and what a run leaves behind."""
MAY_KNOW: dict[str, set[str]] = {
    "errors": set(),
    "interruption": set(),
    "documents": {"errors"},
    "ray_cluster": {"errors"},
    "config": {"errors", "documents"},
    "spelling": set(),
    "strategies": GROUND,
    "models": set(),
    "runs": GROUND | {"spelling"},
    "audio": GROUND,
    "corpora": GROUND | {"spelling", "audio"},
    "pipeline": GROUND | {"audio", "corpora"},
    "network": GROUND,
    "metrics": GROUND,
    "pairwise_svm": {"documents"},
    "classifier": GROUND | {"metrics", "pairwise_svm"},
    "training": GROUND | LINE,
    "pretraining": GROUND | LINE | {"training", "ray_cluster"},
    "statistics": GROUND | {"runs", "strategies", "corpora", "metrics"},
    "serving": GROUND | LINE | {"statistics"},
    "server": GROUND | {"audio", "serving"},
    "report": GROUND | {"runs", "strategies", "corpora", "metrics", "statistics", "serving"},
    "experiments": GROUND | LINE | {"training", "statistics", "serving", "ray_cluster"},
    "cli": GROUND
    | LINE
    | {"training", "pretraining", "statistics", "serving", "server", "report", "experiments", "interruption"},
    "__main__": {"cli", "interruption"},
    "__init__": {"errors", "network", "serving"},  # what `import ser_tf` offers
}

SAME_IN_EVERY_CORPUS = {"parse", "name_of", "speaker_of", "published_names"}
"""Functions that each module of a corpus offers."""
FUSED_KERNEL = "ser_tf/network/batch_normalisation.py"
"""Calls TensorFlow on TensorFlow, and Keras's own layer on every other backend."""
HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "jax", "pandas")
FORBIDDEN_LIBRARIES: dict[str, tuple[str, ...]] = {
    "config": ("numpy", "tyro", *HEAVY),
    "documents": ("numpy", *HEAVY),
    "interruption": ("numpy", *HEAVY),
    "errors": ("numpy", *HEAVY),
    "corpora": ("tensorflow", "keras", "sklearn"),
    "network": ("tensorflow", "jax", "torch"),  # keras.ops: it runs on every backend
    "metrics": ("tensorflow", "keras"),
    "statistics": ("tensorflow", "keras"),
    "server": ("tensorflow", "keras", "sklearn", "jax"),
    **dict.fromkeys(("pairwise_svm", "classifier"), ("tensorflow", "keras", "pickle", "joblib", "skops")),
}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms() -> set[str]:
    return {room_of(file) for file in PACKAGE.rglob("*.py")}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def imports_of(room: str) -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if room_of(file) == room:
            for line, name in imported(file):
                yield f"{file.relative_to(PACKAGE.parent)}:{line}", name


def test_every_room_stands_in_the_table():
    assert rooms() == MAY_KNOW.keys()


def test_the_table_points_one_way():
    order = list(MAY_KNOW)
    for room in order[: order.index("cli") + 1]:
        assert MAY_KNOW[room] <= set(order[: order.index(room)])


@pytest.mark.parametrize("room", MAY_KNOW)
def test_a_room_imports_only_what_it_may_know(room):
    allowed = MAY_KNOW[room] | {room}
    for where, name in imports_of(room):
        assert not name.startswith("."), f"{where}: absolute imports only"
        package, _, rest = name.partition(".")
        if package == "ser_tf":
            assert rest.split(".")[0] in allowed, f"{where}: {room} may not know {name}"


@pytest.mark.parametrize("room", FORBIDDEN_LIBRARIES)
def test_a_room_leaves_these_libraries_alone(room):
    for where, name in imports_of(room):
        if where.startswith(FUSED_KERNEL) and name == "tensorflow":
            continue
        assert name.split(".")[0] not in FORBIDDEN_LIBRARIES[room], f"{where}: {room} may not import {name}"


@pytest.mark.parametrize("room", [room for room in MAY_KNOW if room != "report"])
def test_only_the_report_draws(room):
    for where, name in imports_of(room):
        assert name.split(".")[0] != "matplotlib", f"{where}: {room} may not import {name}"


def modules() -> dict[str, Path]:
    """Every module by its full name."""
    return {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in PACKAGE.rglob("*.py")
    }


def test_no_import_leads_back_to_where_it_started():
    files = modules()
    knows = {
        module: {known for _, name in imported(file) for known in (name, name.rpartition(".")[0]) if known in files}
        for module, file in files.items()
    }

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for known in sorted(knows[module] - {module}):
                walk(known, (*path, module))
            done.add(module)

    done: set[str] = set()
    for module in sorted(files):
        walk(module, ())


def test_a_package_says_what_it_is_and_no_more():
    for file in PACKAGE.rglob("__init__.py"):
        assert len(file.read_text().splitlines()) <= 60, file


def test_no_public_name_stands_twice():
    places: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        if "cli" in file.parts:
            continue  # each command is named after what it calls
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(file.relative_to(PACKAGE)))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert not {name: files for name, files in twice.items() if name not in SAME_IN_EVERY_CORPUS}


def test_there_is_no_room_for_what_has_no_name():
    names = {part for file in PACKAGE.rglob("*.py") for part in file.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "tools", "base"}


@pytest.mark.parametrize(
    "module",
    [
        "ser_tf",
        "ser_tf.cli.door",
        "ser_tf.config",
        "ser_tf.corpora.audit",
        "ser_tf.corpora.folds",
        "ser_tf.corpora.table",
    ],
)
def test_the_door_opens_without_heavy_libraries(module):
    code = f"import sys, {module}; print(*sys.modules.keys() & {set(HEAVY)})"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == []
