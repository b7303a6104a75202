"""Objects loaded by hand: distances, calls out of the object, and what is refused."""

import ctypes
import struct

import pytest

from codegen import elf, jit

pytestmark = pytest.mark.skipif(
    not jit.target().triple.startswith("x86_64") or "linux" not in jit.target().triple, reason="ELF for x86-64"
)
TEXT = """
declare i32 @abs(i32)
@table = internal constant [4 x i32] [i32 3, i32 1, i32 4, i32 {value}]
define internal i32 @entry(i64 %i) noinline {{
  %p = getelementptr i32, ptr @table, i64 %i
  %x = load i32, ptr %p
  ret i32 %x
}}
define i32 @f(i64 %i) {{
  %x = call i32 @entry(i64 %i)
  %y = sub i32 0, %x
  %z = call i32 @abs(i32 %y)
  ret i32 %z
}}
define double @g(double %x) {{
  %y = fmul double %x, 2.5
  ret double %y
}}
"""


def image(text: str) -> bytes:
    return jit.assemble(text, jit.target("x86-64-v2"))


def test_code_reaches_its_constants_its_functions_and_the_library() -> None:
    kept = []
    for value in (1, 5):
        (f, g), memory = elf.load(image(TEXT.format(value=value)), ["f", "g"])
        kept.append(memory)
        function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)(f)
        assert [function(i) for i in range(4)] == [3, 1, 4, value]
        assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(g)(3.0) == 7.5


def test_objects_name_what_they_need() -> None:
    assert elf.undefined_symbols(image(TEXT.format(value=1))) == ["abs"]


@pytest.mark.parametrize(
    "text, what",
    [
        ("@x = global i32 1\ndefine void @f() {\n store i32 2, ptr @x\n ret void\n}", "neither code nor constants"),
        ("@environ = external global ptr\ndefine ptr @f() {\n ret ptr @environ\n}", "unknown relocation"),
    ],
)
def test_what_kernels_do_not_have_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        elf.load(image(text), ["f"])


def test_a_function_that_the_library_lacks_is_an_error() -> None:
    text = "declare void @lacking()\ndefine void @f() {\n call void @lacking()\n ret void\n}"
    with pytest.raises(AttributeError, match="lacking"):
        elf.load(image(text), ["f"])


def test_objects_for_other_machines_are_refused() -> None:
    good = image(TEXT.format(value=1))
    for bad in (b"", b"\x7fELF\x01\x01" + good[6:], good[:0x12] + struct.pack("<H", 183) + good[0x14:]):
        with pytest.raises(ValueError, match="expected an"):
            elf.load(bad, ["f"])
