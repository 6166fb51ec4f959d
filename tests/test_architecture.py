"""The layout's rules, read off the syntax trees: who may import whom, how long, and what never.

A *module* is a dotted name, a *file* its path. Every test collects what breaks its rule, by file,
and expects nothing. The reading order of each package stands in layers.py.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.layers import LAYERS

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "model": {"model"},
    "training": {"training", "model"},
    "service": {"service", "model"},
    "loadtest": {"loadtest"},
    "benchmarks": {"benchmarks", "training", "model", "service"},
}
PACKAGES = {*MAY_IMPORT, "tests"}
MODEL_NEVER_IMPORTS = {"asyncio", "fastapi", "http", "httpx", "requests", "socket", "urllib"}
UNSAFE_FORMATS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"} | {
    "torch.load",
    "torch.save",
}
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40


def files_of(*packages: str) -> list[Path]:
    """The Python files of some packages, relative to the repository."""
    return [
        path.relative_to(ROOT)
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def module_of(file: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def imports_of(file: Path) -> set[str]:
    """Every module a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= modules_named_by(node)
    return found


def modules_named_by(node: ast.ImportFrom) -> set[str]:
    """The modules behind `from a import b`: a.b where that is one of our files, else a."""
    source = node.module or ""
    as_files = {f"{source}.{alias.name}" for alias in node.names} & our_modules()
    return as_files or {source}


@cache
def our_modules() -> frozenset[str]:
    """The dotted names of all our files."""
    return frozenset(module_of(file) for file in files_of(*PACKAGES))


def dotted_names_of(file: Path) -> Iterator[str]:
    """Every `a.b` a file mentions, for two plain names."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def tops(modules: set[str]) -> set[str]:
    """The first part of each dotted name."""
    return {module.partition(".")[0] for module in modules}


def broken(rule: Mapping[Path, Collection[object]]) -> dict[str, Collection[object]]:
    """What breaks a rule, by file; a file without findings is left out."""
    return {str(file): findings for file, findings in rule.items() if findings}


def own_imports(file: Path) -> set[str]:
    """What a file imports from its own package, to the depth of LAYERS."""
    package = file.parts[0]
    ours = {module for module in imports_of(file) if tops({module}) == {package}}
    return {".".join(module.split(".")[:2]) for module in ours}


def above(file: Path) -> set[str]:
    """What a file may import from its own package; __main__ stands at the end of the list."""
    package, name = file.with_suffix("").parts[:2]
    order = ["__init__", *LAYERS[package], "__main__"]
    place = order.index(name) if name in order else 0
    return {package} | {f"{package}.{other}" for other in order[: place + 1]}


def calls_of(file: Path, function: str) -> list[int]:
    """The lines where a file calls a function by its plain name."""
    calls = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == function
    ]


def long_functions_of(file: Path) -> list[str]:
    """The functions of a file that have too many lines, docstrings included."""
    return [
        f"{node.name}, line {node.lineno}"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]


def relative_imports_of(file: Path) -> list[int]:
    """The lines where a file imports relative to itself."""
    nodes = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.ImportFrom)]
    return [node.lineno for node in nodes if node.level]


def test_packages_depend_one_way() -> None:
    """Service -> model <- training; loadtest imports none of them, and nobody the tests."""
    found = {
        file: tops(imports_of(file)) & PACKAGES - MAY_IMPORT[file.parts[0]]
        for file in files_of(*MAY_IMPORT)
    }

    assert broken(found) == {}


def test_every_file_has_its_place_in_the_reading_order() -> None:
    """A package and LAYERS name the same files; a folder such as service/history stands as one."""
    names = {
        package: {file.with_suffix("").parts[1] for file in files_of(package)} for package in LAYERS
    }

    assert {package: found - {"__init__", "__main__"} for package, found in names.items()} == {
        package: set(order) for package, order in LAYERS.items()
    }


def test_a_file_imports_only_files_listed_above_it() -> None:
    """Within a package, dependencies point up the list."""
    found = {file: own_imports(file) - above(file) for file in files_of(*LAYERS)}

    assert broken(found) == {}


def test_imports_are_absolute() -> None:
    """A relative import hides which package it crosses."""
    found = {file: relative_imports_of(file) for file in files_of(*PACKAGES)}

    assert broken(found) == {}


def test_the_service_never_imports_torch() -> None:
    """Tensors are the model's business: the service passes lists of item indices."""
    found = {file: tops(imports_of(file)) & {"torch"} for file in files_of("service")}

    assert broken(found) == {}


def test_the_model_is_pure_compute() -> None:
    """No network and no event loop below the Engine."""
    found = {file: tops(imports_of(file)) & MODEL_NEVER_IMPORTS for file in files_of("model")}

    assert broken(found) == {}


def test_only_the_settings_read_the_environment() -> None:
    """A variable read anywhere else is a setting nobody documented."""
    found = {file: set(dotted_names_of(file)) & ENVIRONMENT for file in files_of(*MAY_IMPORT)}

    assert set(broken(found)) <= {"service/settings.py"}


def test_no_file_is_read_by_a_format_that_runs_code() -> None:
    """Pickle and what is built on it run what they read: safetensors, parquet and JSON do not."""
    found = {
        file: (tops(imports_of(file)) | set(dotted_names_of(file))) & UNSAFE_FORMATS
        for file in files_of(*PACKAGES)
    }

    assert broken(found) == {}


def test_only_command_lines_print() -> None:
    """What a library file has to say goes into its result, its error or the log."""
    found = {
        file: calls_of(file, "print")
        for file in files_of("model", "training", "service", "loadtest")
        if file.name != "__main__.py"
    }

    assert broken(found) == {}


def test_a_file_fits_one_reading() -> None:
    """No file over MAX_FILE_LINES lines."""
    lengths = {
        str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines())
        for file in files_of(*PACKAGES)
    }

    assert {file: n for file, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_a_function_fits_one_screen() -> None:
    """No function over MAX_FUNCTION_LINES lines, docstring included."""
    found = {file: long_functions_of(file) for file in files_of(*PACKAGES)}

    assert broken(found) == {}
