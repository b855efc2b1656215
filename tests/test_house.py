"""The floors of the house: imports point down, or sideways without circles; a net cites only older papers."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from convatlas.catalogue import variants

ROOT = Path(__file__).parent.parent / "convatlas"
FLOORS = {
    0: "errors files checked catalogue recipe preprocess protocols limits arithmetic version",
    1: "layers muon nets recipes tables accounting machine data",
    2: "runs weights",
    3: "evaluation train",
    4: "engines tuning choice report doctor demo",
    5: "cli __main__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
LAZY = {("catalogue", "layers"), ("catalogue", "nets")}  # discovery, and building what was found
FILES = sorted(ROOT.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    """Absolute names of the modules that a file imports: at the top, lazily in functions, and for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        types_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if top_level_only and (types_only or isinstance(node, ast.FunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            members = {f"{source}.{alias.name}" for alias in node.names}
            found.update(members if members <= MODULES else members | {source})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


MODULES = {module_name(file) for file in FILES}


def rooms_used(file: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(file) if name.startswith("convatlas.")}
    return {name for name in names if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists()}


def test_every_room_has_a_floor() -> None:
    assert {room(f) for f in FILES} - {"__init__"} == set(FLOOR)


def test_every_room_says_what_it_is_for() -> None:
    drawing = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Floors")[0]
    for folder in sorted({file.parent for file in FILES}):
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert text.split("\n\n")[0].endswith("."), f"{folder}: __init__.py opens with a sentence"
        assert f"{folder.name}/" in drawing, f"docs/architecture.md does not draw {folder.name}/"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    here = room(file)
    if here == "__init__":
        return
    for used in rooms_used(file) - {here}:
        assert FLOOR[used] <= FLOOR[here] or (here, used) in LAZY, f"{here} imports {used}, which is above it"


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A way from one of the nodes back to itself, if there is one."""
    try:
        list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        return error.args[1]
    return None


def test_no_circles_between_rooms() -> None:
    edges: dict[str, set[str]] = {}
    for file in FILES:
        here = room(file)
        edges.setdefault(here, set()).update(u for u in rooms_used(file) - {here} if (here, u) not in LAZY)
    assert circle(edges) is None


def test_no_circles_between_files() -> None:
    edges = {module_name(f): (imports(f) & MODULES) - {module_name(f)} for f in FILES}
    for here, there in LAZY:
        edges[f"convatlas.{here}"] -= {m for m in MODULES if m.startswith(f"convatlas.{there}")}
    assert circle(edges) is None


def test_the_ground_floor_needs_no_torch() -> None:
    for file in FILES:
        if FLOOR.get(room(file)) == 0:
            assert not {n for n in imports(file, top_level_only=True) if n.split(".")[0] == "torch"}, file


def test_nets_import_only_older_papers() -> None:
    years: dict[str, int] = {}
    for v in variants().values():
        assert v.paper is not None
        years[v.family] = min(v.paper.year, years.get(v.family, 9999))

    def family(stem: str) -> str:
        return stem.split("_")[1] if stem.startswith("_") else stem  # `_nasnet_cells` is a part of nasnet

    for file in {*(ROOT / "nets").glob("*.py")} - {ROOT / "nets" / "__init__.py"}:
        used = {family(n.split(".")[2]) for n in imports(file) if n.startswith("convatlas.nets.")}
        year = years[family(file.stem)]
        for other in used - {family(file.stem)}:
            assert years[other] <= year, f"{file.stem} ({year}) imports the newer {other}"


def test_net_files_open_with_their_paper() -> None:
    for family in {v.family for v in variants().values()}:
        text = ast.get_docstring(ast.parse((ROOT / "nets" / f"{family}.py").read_text(encoding="utf-8"))) or ""
        assert "https://" in text.split("\n\n")[0], f"{family}: the first lines name the paper and its address"
        assert "Read beside" in text, family
        assert "Departures from the paper:" in text, family


def test_tests_take_nothing_from_other_test_files() -> None:
    for file in Path(__file__).parent.rglob("test_*.py"):
        taken: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                taken.update(alias.name for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                taken.update(f"{node.module}.{alias.name}" for alias in node.names)
        parts = {part for name in taken for part in name.split(".")}
        assert not [part for part in parts if part.startswith("test_")], f"{file}: share helpers in their own module"
