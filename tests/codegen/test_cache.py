"""The code cache on disk: what is found again, what is refused, what is removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kernel_tools import TARGET, execute, sample
from test_machine_code import square

from codegen import cache, jit
from codegen.cache import Disk, Entry, Refused, digest
from codegen.scalar import F32

ROOT = Path(__file__).parents[2]
KEY, OTHER = digest(["a"]), digest(["b"])
ENTRY = Entry((3, -4), b"code" * 100)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "cache")


@pytest.fixture
def jitted(disk: Disk) -> Iterator[Disk]:
    jit.clear()
    jit.use_disk(disk)
    yield disk
    jit.use_disk(None)
    jit.clear()


def only_file(disk: Disk) -> Path:
    (path,) = disk.directory.iterdir()
    return path


def test_entries_are_found_again(disk: Disk) -> None:
    assert disk.load(KEY) is None
    disk.store(KEY, ENTRY)
    assert disk.load(KEY) == ENTRY and disk.load(OTHER) is None
    assert Disk(disk.directory).load(KEY) == ENTRY
    disk.store(KEY, Entry((), b""))
    assert disk.load(KEY) == Entry((), b"")


def test_keys_tell_lists_apart() -> None:
    lists = [["ab"], ["a", "b"], ["", "ab"], ["b", "a"], [], [""]]
    assert len({digest(x) for x in lists}) == len(lists)


def test_private_to_their_owner(disk: Disk) -> None:
    disk.store(KEY, ENTRY)
    assert stat.S_IMODE(disk.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(disk).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(Refused, match="only its owner"):
        Disk(tmp_path)


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refused, match="only its owner"):
        Disk(tmp_path)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused):
        Disk(tmp_path / "file" / "cache")


def test_entries_others_could_have_written_are_not_used(disk: Disk) -> None:
    disk.store(KEY, ENTRY)
    only_file(disk).chmod(0o666)
    assert disk.load(KEY) is None
    disk.store(KEY, ENTRY)
    path = only_file(disk)
    path.rename(disk.directory.parent / "elsewhere")
    path.symlink_to(disk.directory.parent / "elsewhere")
    assert disk.load(KEY) is None


def damages() -> list[tuple[str, object]]:
    return [
        ("empty", lambda d: b""),
        ("short", lambda d: d[:20]),
        ("truncated", lambda d: d[:-1]),
        ("longer", lambda d: d + b"\0"),
        ("magic", lambda d: b"x" + d[1:]),
        ("code", lambda d: d[:-10] + bytes([d[-10] ^ 1]) + d[-9:]),
        ("facts", lambda d: d[:80] + bytes([d[80] ^ 1]) + d[81:]),
        ("zeros", lambda d: bytes(len(d))),
    ]


@pytest.mark.parametrize("damage", [d for _, d in damages()], ids=[name for name, _ in damages()])
def test_damaged_entries_are_absent_and_removed(disk: Disk, damage) -> None:
    disk.store(KEY, ENTRY)
    path = only_file(disk)
    path.write_bytes(damage(path.read_bytes()))
    assert disk.load(KEY) is None
    assert not path.exists()
    disk.store(KEY, ENTRY)
    assert disk.load(KEY) == ENTRY


def test_an_entry_under_another_key_is_foreign(disk: Disk) -> None:
    disk.store(KEY, ENTRY)
    path = only_file(disk)
    path.rename(path.with_name(OTHER.hex()))
    assert disk.load(OTHER) is None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "cache", limit=10_000)
    keys = [digest([str(i)]) for i in range(30)]
    for age, key in enumerate(keys):
        disk.store(key, Entry((), bytes(900)))
        if age < 9:
            os.utime(disk.directory / key.hex(), (1000 + age, 1000 + age))
        if age == 8:
            assert disk.load(keys[0]) is not None  # used now: the others go
    total = sum(p.stat().st_size for p in disk.directory.iterdir())
    assert 5000 < total <= 10_000
    assert disk.load(keys[1]) is None and disk.load(keys[-1]) is not None
    disk.store(OTHER, Entry((), bytes(20_000)))
    assert disk.load(OTHER) is None and disk.load(keys[-1]) is not None


def test_what_killed_processes_left_is_removed(disk: Disk) -> None:
    left, fresh = disk.directory / "old.tmp", disk.directory / "new.tmp"
    left.write_bytes(b"x")
    os.utime(left, (1000, 1000))
    fresh.write_bytes(b"x")
    disk.store(KEY, ENTRY)
    assert not left.exists() and fresh.exists()


def test_a_directory_that_cannot_be_written_to_is_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.store(KEY, ENTRY)
    (disk.directory / OTHER.hex()).write_bytes(b"damaged")
    (disk.directory / OTHER.hex()).chmod(0o600)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    for name in ("utime", "unlink", "replace"):
        monkeypatch.setattr(os, name, refused)
    assert disk.load(KEY) == ENTRY and disk.load(OTHER) is None
    monkeypatch.setattr(cache.tempfile, "mkstemp", refused)
    disk.store(OTHER, ENTRY)
    assert disk.load(OTHER) is None


def test_losing_the_directory_is_no_error(disk: Disk) -> None:
    disk.store(KEY, ENTRY)
    only_file(disk).unlink()
    assert disk.load(KEY) is None
    disk.directory.rmdir()
    disk.store(KEY, ENTRY)
    assert disk.load(KEY) is None


def test_many_writers_of_the_same_keys(tmp_path: Path) -> None:
    keys = [digest([str(i)]) for i in range(8)]
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        disk = Disk(tmp_path / "cache", limit=20_000)
        start.wait()
        for round in range(60):
            key = keys[(round * 3 + number) % len(keys)]
            disk.store(key, Entry((number,), key * 80))
            found = disk.load(key)
            if found is not None and found.image != key * 80:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_compiled_kernels_come_back_without_building(jitted: Disk) -> None:
    target = jit.target(TARGET)
    first = jit.compile_kernel(square(321), target)
    before = jit.counts.built, jit.counts.disk_hits
    jit.clear()
    again = jit.compile_kernel(square(321, name="other"), target)
    assert (jit.counts.built, jit.counts.disk_hits) == (before[0], before[1] + 1)
    assert again is not first and again.object == first.object and again.llvm == first.llvm
    assert [(p.outer, p.work, p.few) for p in again.functions] == [(p.outer, p.work, p.few) for p in first.functions]
    assert (again.shared, again.scratch) == (first.shared, first.scratch)
    x, y = sample(F32, 321), np.zeros(321, np.float32)
    execute(square(321), x, y)
    assert np.array_equal(y, x * x)


def test_code_of_other_versions_and_targets_is_not_found(jitted: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.compile_kernel(square(322), jit.target("x86-64-v2"))
    built = jit.counts.built
    jit.compile_kernel(square(322), jit.target("x86-64-v3"))
    assert jit.counts.built == built + 1
    jit.clear()
    monkeypatch.setattr(jit, "_versions", lambda: "another")
    jit.compile_kernel(square(322), jit.target("x86-64-v2"))
    assert jit.counts.built == built + 2


def test_the_source_digest_covers_the_package() -> None:
    assert len(cache.source()) == 64
    cache.source.cache_clear()
    assert cache.source() == cache.source()


PROGRAM = """
import sys
import numpy as np
import tinyad as ad
from codegen import jit
if sys.argv[1] == "no code generation":
    def refuse(*args):
        raise AssertionError("code is generated")
    jit.emit = jit.assemble = refuse
x = ad.tensor(np.linspace(-1, 1, 200_000, dtype=np.float32), requires_grad=True)
w = ad.tensor(np.linspace(-1, 1, 200 * 300, dtype=np.float32).reshape(200, 300))
loss = (ad.tanh(x.reshape(1000, 200) @ w) ** 2).mean()
loss.backward()
print(x.grad.numpy().tobytes()[:4000].hex(), loss.numpy().tobytes().hex())
parameters = [ad.tensor(np.full((50 + k, 7), 0.5, np.float32), requires_grad=True) for k in range(4)]  # segments
sum((ad.exp(p) * p).sum() for p in parameters).backward()
updated = [p - 0.1 * p.grad for p in parameters]
print(updated[0].numpy().sum(), updated[3].numpy().sum())
chain = ad.tensor(np.linspace(-1, 1, 5000, dtype=np.float32))  # strips
for k in range(400):
    chain = ad.tanh(chain * 1.01) + chain * 0.5 if k % 3 else chain - 0.125
print(chain.numpy().sum())
stats = ad.compiled_stats()
print(stats["kernels_built"], stats["disk_hits"])
"""


def program(directory: Path, *arguments: str, **variables: str) -> list[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYAD_")}
    env |= {"PYTHONPATH": str(ROOT), "TINYAD_CACHE_DIR": str(directory), **variables}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_second_process_builds_nothing(tmp_path: Path) -> None:
    *values, counts = program(tmp_path / "cache", "first")
    built, hits = map(int, counts.split())
    assert built > 0 and hits == 0
    *again, counts = program(tmp_path / "cache", "no code generation")
    assert again == values and counts == f"0 {built}"
    for path in (tmp_path / "cache").iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    assert program(tmp_path / "cache", "damaged") == [*values, f"{built} 0"]


def test_processes_that_fill_one_cache_at_a_time(tmp_path: Path) -> None:
    """Each has its results; what is there afterwards is whole, and serves a process that must not build."""
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: program(tmp_path / "cache", "together"), range(3)))
    assert runs[0][:-1] == runs[1][:-1] == runs[2][:-1]
    assert not list((tmp_path / "cache").glob("*.tmp"))
    *values, counts = program(tmp_path / "cache", "no code generation")
    assert values == runs[0][:-1] and counts.split()[0] == "0"


def test_the_variables_that_place_it_and_turn_it_off(tmp_path: Path) -> None:
    (tmp_path / "xdg").mkdir()
    program(tmp_path / "off", "off", TINYAD_CACHE="0", XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert not (tmp_path / "off").exists() and not list((tmp_path / "xdg").iterdir())
    env = {"TINYAD_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    program(tmp_path, "xdg", **env)
    assert list((tmp_path / "xdg" / "tinyad").iterdir())
