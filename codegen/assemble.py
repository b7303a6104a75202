"""LLVM text to object code, several modules at once. Nothing here is kept or run: see `codegen.jit`.

LLVM works on as many modules at the same time as have a context and a target machine of their own. llvmlite holds one
lock through each of its functions, so those that the way from text to object goes through are called directly.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import llvmlite.binding as llvm

from .target import Target

_X = TypeVar("_X")
_Y = TypeVar("_Y")
_P, _MESSAGE = ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p)
_FUNCTIONS: Final = {  # name -> (result, arguments, whether it takes long enough for other Python threads to go on)
    "ContextCreate": (_P, (), False),
    "ContextDispose": (None, (_P,), False),
    "ParseAssembly": (_P, (_P, ctypes.c_char_p, _MESSAGE), True),
    "VerifyModule": (ctypes.c_int, (_P, _MESSAGE), True),
    "TargetMachineEmitToMemory": (_P, (_P, _P, ctypes.c_int, _MESSAGE), True),
    "DisposeModule": (None, (_P,), False),
    "GetBufferStart": (_P, (_P,), False),
    "GetBufferSize": (ctypes.c_size_t, (_P,), False),
    "DisposeMemoryBuffer": (None, (_P,), False),
    "DisposeString": (None, (ctypes.c_char_p,), False),
}
_idle: Final[dict[Target, list[Any]]] = {}  # target machines that no thread uses


@cache
def initialize(host: bool) -> None:
    """Code generators are made known: the host's, or all of them for objects that only other machines can run."""
    if host:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


@cache
def _library() -> dict[str, Any]:
    """The functions named above."""
    name = llvm.ffi.lib._name
    free, held = ctypes.CDLL(name), ctypes.PyDLL(name)
    out = {}
    for short, (result, arguments, long) in _FUNCTIONS.items():
        f = out[short] = getattr(free if long else held, f"LLVMPY_{short}")
        f.restype, f.argtypes = result, arguments
    return out


def _machine(t: Target) -> Any:
    initialize(t.triple == llvm.get_default_triple())
    return llvm.Target.from_triple(t.triple).create_target_machine(
        cpu=t.cpu, features=t.features, opt=2, reloc="pic", codemodel="small", jit=False
    )


@cache
def _header(t: Target) -> str:
    return f'target triple = "{t.triple}"\ntarget datalayout = "{_machine(t).target_data}"\n'


def assemble(text: str, t: Target) -> bytes:
    """The object file of LLVM text: verified, and code generated without any IR pass pipeline."""
    return _emitted(text, t, True)


def assembly(text: str, t: Target) -> str:
    """The assembly of LLVM text."""
    return _emitted(text, t, False).decode()


def _emitted(text: str, t: Target, binary: bool) -> bytes:
    call = _library()
    machines = _idle.setdefault(t, [])
    machine = machines.pop() if machines else _machine(t)
    message = ctypes.c_char_p()
    context = call["ContextCreate"]()
    module = call["ParseAssembly"](context, (_header(t) + text).encode(), message)
    try:
        if not module or call["VerifyModule"](module, message):
            raise _error(message)
        buffer = call["TargetMachineEmitToMemory"](machine._ptr, module, binary, message)
        if not buffer:
            raise _error(message)
        out = ctypes.string_at(call["GetBufferStart"](buffer), call["GetBufferSize"](buffer))
        call["DisposeMemoryBuffer"](buffer)
        return out
    finally:
        machines.append(machine)
        if module:
            call["DisposeModule"](module)
        call["ContextDispose"](context)


def _error(message: ctypes.c_char_p) -> RuntimeError:
    text = (message.value or b"").decode()
    _library()["DisposeString"](message)
    return RuntimeError(f"LLVM: {text}")


def several(f: Callable[[_X], _Y], items: Sequence[_X], workers: int) -> list[_Y]:
    """``[f(x) for x in items]``, begun in this order, on this thread and `workers` - 1 others.

    An exception, one that interrupts this thread included, is raised once no thread is at work any more.
    """
    waiting = iter(list(enumerate(items)))
    done: dict[int, _Y] = {}
    raised: list[BaseException] = []

    def work() -> None:
        try:
            for i, x in waiting:
                if raised:
                    return
                done[i] = f(x)
        except BaseException as e:
            raised.append(e)

    others = [threading.Thread(target=work) for _ in range(min(workers, len(items)) - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        try:
            thread.join()
        except KeyboardInterrupt as e:
            raised.append(e)
            thread.join()
    if raised:
        raise raised[0]
    return [done[i] for i in range(len(items))]
