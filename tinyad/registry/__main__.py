"""``python -m tinyad.registry``: the reference of all public functions, made from their records, as Markdown."""

from __future__ import annotations

import inspect
from itertools import groupby

from . import RECORDS, Record

KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}


def row(r: Record) -> str:
    """One line of the table: signature, what it returns, dtypes, how often it can be differentiated."""
    said = inspect.getdoc(r.function) or ""
    first = said.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    names = ", ".join(f"`{n}`" for n in (r.name, *r.aliases))
    orders = {0: "no"}.get(r.orders, "yes") + (", linear" if r.linear else "")
    return f"| {names} | {first} | {', '.join(KINDS[k] for k in r.kinds)} | {orders} |"


def main() -> None:
    for family, records in groupby(RECORDS.values(), key=lambda r: r.family):
        print(f"## {family}\n\n| function | returns | dtypes | derivative |\n| --- | --- | --- | --- |")
        print("\n".join(map(row, records)), end="\n\n")


if __name__ == "__main__":
    main()
