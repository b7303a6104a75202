"""Lines of code per package and file against the stated budgets; exits 1 when one has outgrown its own.

A line counts if it holds code: blank lines, comments and docstrings do not. Run: ``python tests/sizes.py``.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUDGETS = {  # lines of code
    "codegen": 10500,
    "tinyad/autodiff": 1050,
    "tinyad/schedule": 1800,
    "tinyad/lower": 1080,
    "tinyad/functions": 2700,
    "tinyad/registry": 2100,
    "tinyad": 13600,
}


def code_lines(path: Path) -> int:
    """Lines of `path` that hold code."""
    source = path.read_text()
    docs: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def main() -> int:
    files = {p: code_lines(p) for package in ("tinyad", "codegen") for p in sorted((ROOT / package).rglob("*.py"))}
    for path, lines in files.items():
        print(f"{lines:6} {path.relative_to(ROOT)}")
    over = 0
    for place, budget in BUDGETS.items():
        total = sum(lines for path, lines in files.items() if (ROOT / place) in path.parents)
        over += total > budget
        print(f"{total:6} of {budget} {place}{'  OVER BUDGET' if total > budget else ''}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
