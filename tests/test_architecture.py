"""The shape of the project: which way imports point, that tables are total, what imports load, what a wheel holds."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from codegen import scalar
from codegen.ops import CONVERSIONS, TABLE
from tinyad import interpret, ir, verify
from tinyad.autodiff import partials
from tinyad.autodiff.batch import BATCH
from tinyad.ir import Op
from tinyad.lower.movement import THROUGH

ROOT = Path(__file__).parent.parent


def imports(path: Path) -> set[str]:
    """The modules a file imports anywhere, as absolute names."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found.add(name)
            found.update(f"{name}.{a.name}" for a in node.names)
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_codegen_never_imports_tinyad():
    for path in files("codegen"):
        assert not any(m.split(".")[0] == "tinyad" for m in imports(path)), path


def test_only_two_files_load_llvm():
    users = {
        str(p.relative_to(ROOT))
        for p in [*files("codegen"), *files("tinyad")]
        if any(m.startswith("llvmlite") for m in imports(p))
    }
    assert users == {"codegen/assemble.py", "codegen/jit.py"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("tinyad/interpret.py", ("tinyad.schedule", "tinyad.lower", "tinyad.realize", "codegen")),
        ("tinyad/ir.py", ("tinyad.tensor", "tinyad.autodiff", "tinyad.schedule", "codegen")),
        ("tinyad/axes.py", ("tinyad.autodiff", "tinyad.schedule", "codegen")),
        ("tinyad/schedule", ("tinyad.tensor", "tinyad.autodiff", "tinyad.realize", "llvmlite")),
        ("tinyad/autodiff", ("tinyad.tensor", "tinyad.schedule", "tinyad.lower", "tinyad.realize", "codegen")),
        ("tinyad/functions", ("tinyad.tensor", "tinyad.schedule", "tinyad.realize", "codegen")),
    ],
)
def test_arrows_point_one_way(module: str, forbidden: tuple[str, ...]):
    place = ROOT / module
    for path in files(module) if place.is_dir() else [place]:
        if path.name == "check.py":  # numerical checks run the interpreter
            continue
        for name in imports(path):
            assert not any(name == f or name.startswith(f + ".") for f in forbidden), (path, name)


def test_tables_are_total():
    every = set(Op)
    assert set(interpret.EVALUATE) == every
    assert set(verify.RULES) == every
    assert set(BATCH) == every - partials.VARIABLE
    weighted = set(partials.PARTIALS) | set(partials.ADJOINT) | set(partials.WEIGHTS)
    assert weighted | partials.SPECIAL | partials.VARIABLE | partials.BLOCKED | {Op.DETACH} == every
    assert {op.value for op in ir.ELEMENTWISE} == set(scalar.OPS) - {"muladd"}  # of sums alone
    walked = set(THROUGH) | ir.ELEMENTWISE | ir.REDUCE
    never_reached = {Op.BUFFER, Op.INPUT, Op.DETACH, Op.CUSTOM, Op.CALL, Op.SCAN}
    assert walked | never_reached == every
    assert {op for op, _ in TABLE} | {op for op, _ in CONVERSIONS} == set(scalar.OPS)


def run(code: str, **variables: str) -> str:
    """The output of a fresh interpreter."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYAD_")} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_does_not_load_llvm_and_reading_does():
    loaded = "'llvmlite' in sys.modules"
    code = f"import sys, tinyad as ad; a = {loaded}; (ad.ones(2) + 1).numpy(); print(a, {loaded})"
    assert run(code, PYTHONPATH=str(ROOT)) == "False True"


def test_an_unknown_variable_warns():
    code = (

        "import warnings; warnings.simplefilter('error')\n"
        "try:\n  import tinyad\nexcept UserWarning as e:\n  print(e)"

    )
    assert "TINYAD_THREDS" in run(code, PYTHONPATH=str(ROOT), TINYAD_THREDS="2")


def test_a_foreign_codegen_is_named(tmp_path: Path):
    (tmp_path / "codegen").symlink_to(ROOT / "codegen")
    code = (
        "import codegen; codegen.OWNER = 'other'; import tinyad as ad\n"
        "try:\n  (ad.ones(2) + 1).numpy()\nexcept ImportError as e:\n  print(e)"
    )
    assert "not tinyad's own" in run(code, PYTHONPATH=str(ROOT))


def test_the_built_wheel_computes(tmp_path: Path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
    source = tmp_path / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "tinyad", "codegen"):
        (source / name).symlink_to(ROOT / name)
    pip[-1] = str(source)
    done = subprocess.run([*pip, "-w", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        assert "tinyad/py.typed" in names and "codegen/py.typed" in names
        tops = {n.split("/")[0] for n in names if not n.split("/")[0].endswith(".dist-info")}
        assert tops == {"tinyad", "codegen"}
        z.extractall(tmp_path / "site")
    code = "import tinyad as ad; print(ad.__file__); print(float(ad.grad(lambda x: x * x)(3.0)))"
    out = run(code, PYTHONPATH=str(tmp_path / "site")).splitlines()
    assert out == [str(tmp_path / "site" / "tinyad" / "__init__.py"), "6.0"]
