"""The thread pool as LLVM text: see `codegen.threads`. Its state is a block of memory; no variable is global.

A round: the caller writes the job, then the claims word (round above chunks left). Whoever decrements the chunks left
may take a chunk, and the job stays as it is until all who may have added 1 to `DONE`. Words that threads wait for are
futexes: the upper half of the claims, and `DONE`.

Which chunk: each thread has a *home*, its share of the chunks in a row, so that it meets in the next kernel, and in the
next call, what its own caches hold of an array. Who has finished at home helps at the next home that has chunks left,
from the other end. A home's word has the turn above the numbers of chunks taken at its end and at its beginning; one
of an older turn stands for none taken. The turn is the job's, since a pool that is stopped moves the round on at once.
"""

from __future__ import annotations

from typing import Final

CLAIMS: Final = 0  # u64: round << 32 | chunks left
SLEEPERS: Final = 64  # u32: workers asleep or about to be
DONE: Final = 128  # u32: chunks finished
WAITING: Final = 132  # u32: whether the caller sleeps until the last one is
BUSY: Final = 192  # u32: whether a caller has the pool
STOP: Final = 256  # u32
JOB: Final = 320  # kernel, outer, units, grain, table, params, entries, scratch, chunks, mxcsr, turn: 8 bytes each
STATUS: Final = 448  # u32 for each chunk
WORKERS: Final = STATUS + 4 * 256  # thread, state, number: 8 bytes each
MOST: Final = 256  # threads
THREADS: Final = WORKERS + 24 * MOST  # u64: the caller and the workers
HOMES: Final = THREADS + 64  # u64 for each thread, in a line of its own
STATE_BYTES: Final = HOMES + 64 * MOST
ENTRIES: Final = ("pool_start", "pool_stop", "pool_probe", "pool_run")
SPIN: Final = 1 << 20  # ticks before a thread sleeps: 0.3 to 0.5 ms, several times what waking it costs the caller

_HEAD = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i64 @syscall(i64, ...)
declare void @llvm.x86.sse2.pause()
declare i64 @llvm.readcyclecounter()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare i64 @llvm.smin.i64(i64, i64)

define internal void @futex_wait(ptr %word, i32 %seen) {
  %r = call i64 (i64, ...) @syscall(i64 202, ptr %word, i64 128, i32 %seen, ptr null)
  ret void
}
define internal void @futex_wake(ptr %word, i32 %count) {
  %r = call i64 (i64, ...) @syscall(i64 202, ptr %word, i64 129, i32 %count)
  ret void
}
define internal void @nothing(ptr %table, ptr %params, i64 %begin, i64 %end, ptr %status) {
  ret void
}
"""

# Chunk i of the job on thread w: iterations units*i/chunks*grain and on, with the thread's own scratch area.
_CHUNK = """
define internal void @chunk(ptr %s, i64 %w, i64 %i) noinline {{
entry:
  %job = getelementptr i8, ptr %s, i64 {JOB}
  %kernel = load ptr, ptr %job
  %p.outer = getelementptr i64, ptr %job, i64 1
  %outer = load i64, ptr %p.outer
  %p.units = getelementptr i64, ptr %job, i64 2
  %units = load i64, ptr %p.units
  %p.grain = getelementptr i64, ptr %job, i64 3
  %grain = load i64, ptr %p.grain
  %p.table = getelementptr i64, ptr %job, i64 4
  %table = load ptr, ptr %p.table
  %p.params = getelementptr i64, ptr %job, i64 5
  %params = load ptr, ptr %p.params
  %p.entries = getelementptr i64, ptr %job, i64 6
  %entries = load i64, ptr %p.entries
  %p.scratch = getelementptr i64, ptr %job, i64 7
  %scratch = load i64, ptr %p.scratch
  %p.chunks = getelementptr i64, ptr %job, i64 8
  %chunks = load i64, ptr %p.chunks
  %p.mxcsr = getelementptr i64, ptr %job, i64 9
  call void @llvm.x86.sse.ldmxcsr(ptr %p.mxcsr)
  %x = mul i64 %i, %units
  %lo = udiv i64 %x, %chunks
  %y = add i64 %x, %units
  %hi = udiv i64 %y, %chunks
  %begin = mul i64 %lo, %grain
  %past = mul i64 %hi, %grain
  %end = call i64 @llvm.smin.i64(i64 %past, i64 %outer)
  %statuses = getelementptr i8, ptr %s, i64 {STATUS}
  %status = getelementptr i32, ptr %statuses, i64 %i
  %plain = icmp eq i64 %scratch, 0
  br i1 %plain, label %shared, label %private
shared:
  call void %kernel(ptr %table, ptr %params, i64 %begin, i64 %end, ptr %status)
  ret void
private:
  %mine = alloca i64, i64 %entries, align 16
  %last = sub i64 %entries, 1
  br label %copy
copy:
  %j = phi i64 [0, %private], [%next, %copy]
  %from = getelementptr i64, ptr %table, i64 %j
  %to = getelementptr i64, ptr %mine, i64 %j
  %address = load i64, ptr %from
  store i64 %address, ptr %to
  %next = add i64 %j, 1
  %more = icmp ult i64 %next, %entries
  br i1 %more, label %copy, label %copied
copied:
  %area = getelementptr ptr, ptr %mine, i64 %last
  %first = load ptr, ptr %area
  %offset = mul i64 %w, %scratch
  %own = getelementptr i8, ptr %first, i64 %offset
  store ptr %own, ptr %area
  call void %kernel(ptr %mine, ptr %params, i64 %begin, i64 %end, ptr %status)
  ret void
}}
define internal i64 @take(ptr %s, i64 %w) {{
entry:
  %job = getelementptr i8, ptr %s, i64 {JOB}
  %p.turn = getelementptr i64, ptr %job, i64 10
  %turn = load i64, ptr %p.turn
  %high = shl i64 %turn, 32
  %p.chunks = getelementptr i8, ptr %s, i64 {CHUNKS}
  %chunks = load i64, ptr %p.chunks
  %p.threads = getelementptr i8, ptr %s, i64 {THREADS}
  %threads = load i64, ptr %p.threads
  %homes = getelementptr i8, ptr %s, i64 {HOMES}
  br label %visit
visit:
  %h = phi i64 [%w, %entry], [%next, %leave]
  %up = add i64 %h, 1
  %x = mul i64 %h, %chunks
  %lo = udiv i64 %x, %threads
  %y = mul i64 %up, %chunks
  %hi = udiv i64 %y, %threads
  %all = sub i64 %hi, %lo
  %line = mul i64 %h, 64
  %home = getelementptr i8, ptr %homes, i64 %line
  %now = load atomic i64, ptr %home seq_cst, align 8
  br label %try
try:
  %word = phi i64 [%now, %visit], [%other, %claim]
  %at = lshr i64 %word, 32
  %current = icmp eq i64 %at, %turn
  %low = and i64 %word, 4294967295
  %counts = select i1 %current, i64 %low, i64 0
  %first = and i64 %counts, 65535
  %last = lshr i64 %counts, 16
  %taken = add i64 %first, %last
  %none = icmp eq i64 %taken, %all
  br i1 %none, label %leave, label %claim
leave:
  %past = icmp eq i64 %up, %threads
  %next = select i1 %past, i64 0, i64 %up
  br label %visit
claim:
  %front = icmp eq i64 %h, %w
  %one = select i1 %front, i64 1, i64 65536
  %more = add i64 %counts, %one
  %new = or i64 %high, %more
  %swap = cmpxchg ptr %home, i64 %word, i64 %new seq_cst seq_cst
  %other = extractvalue {{i64, i1}} %swap, 0
  %won = extractvalue {{i64, i1}} %swap, 1
  br i1 %won, label %found, label %try
found:
  %up1 = add i64 %lo, %first
  %hi1 = sub i64 %hi, 1
  %down = sub i64 %hi1, %last
  %i = select i1 %front, i64 %up1, i64 %down
  ret i64 %i
}}
define internal void @drain(ptr %s, i64 %w) {{
entry:
  br label %look
look:
  %now = load atomic i64, ptr %s seq_cst, align 8
  br label %try
try:
  %seen = phi i64 [%now, %look], [%other, %claim]
  %left = and i64 %seen, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %empty, label %claim
claim:
  %less = sub i64 %seen, 1
  %swap = cmpxchg ptr %s, i64 %seen, i64 %less seq_cst seq_cst
  %other = extractvalue {{i64, i1}} %swap, 0
  %won = extractvalue {{i64, i1}} %swap, 1
  br i1 %won, label %work, label %try
work:
  %p.chunks = getelementptr i8, ptr %s, i64 {CHUNKS}
  %chunks = load i64, ptr %p.chunks
  %i = call i64 @take(ptr %s, i64 %w)
  call void @chunk(ptr %s, i64 %w, i64 %i)
  %done = getelementptr i8, ptr %s, i64 {DONE}
  %before = atomicrmw add ptr %done, i32 1 seq_cst
  %after = add i32 %before, 1
  %all = trunc i64 %chunks to i32
  %last = icmp eq i32 %after, %all
  br i1 %last, label %tell, label %look
tell:
  %waiting = getelementptr i8, ptr %s, i64 {WAITING}
  %asleep = load atomic i32, ptr %waiting seq_cst, align 4
  %awake = icmp eq i32 %asleep, 0
  br i1 %awake, label %look, label %wake
wake:
  call void @futex_wake(ptr %done, i32 1)
  br label %look
empty:
  ret void
}}
"""

_WORKER = """
define internal ptr @worker(ptr %slot) {{
entry:
  %p.state = getelementptr i64, ptr %slot, i64 1
  %s = load ptr, ptr %p.state
  %p.number = getelementptr i64, ptr %slot, i64 2
  %w = load i64, ptr %p.number
  %stop = getelementptr i8, ptr %s, i64 {STOP}
  %sleepers = getelementptr i8, ptr %s, i64 {SLEEPERS}
  %round = getelementptr i8, ptr %s, i64 4
  br label %awake
awake:
  %since = call i64 @llvm.readcyclecounter()
  br label %spin
spin:
  %claims = load atomic i64, ptr %s acquire, align 8
  %left = and i64 %claims, 4294967295
  %some = icmp ne i64 %left, 0
  br i1 %some, label %work, label %idle
work:
  call void @drain(ptr %s, i64 %w)
  br label %awake
idle:
  %stopped = load atomic i32, ptr %stop acquire, align 4
  %end = icmp ne i32 %stopped, 0
  br i1 %end, label %exit, label %wait
wait:
  %now = call i64 @llvm.readcyclecounter()
  %spun = sub i64 %now, %since
  %patient = icmp ult i64 %spun, {SPIN}
  br i1 %patient, label %pause, label %sleep
pause:
  call void @llvm.x86.sse2.pause()
  br label %spin
sleep:
  %o = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %claims2 = load atomic i64, ptr %s seq_cst, align 8
  %left2 = and i64 %claims2, 4294967295
  %high = lshr i64 %claims2, 32
  %seen = trunc i64 %high to i32
  %some2 = icmp ne i64 %left2, 0
  br i1 %some2, label %rise, label %check
check:
  %stopped2 = load atomic i32, ptr %stop seq_cst, align 4
  %end2 = icmp ne i32 %stopped2, 0
  br i1 %end2, label %rise, label %doze
doze:
  call void @futex_wait(ptr %round, i32 %seen)
  %current = load atomic i32, ptr %round seq_cst, align 4
  %same = icmp eq i32 %current, %seen
  br i1 %same, label %doze, label %rise
rise:
  %o2 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %awake
exit:
  ret ptr null
}}
define i64 @pool_start(ptr %s, i64 %count) {{
entry:
  %slots = getelementptr i8, ptr %s, i64 {WORKERS}
  br label %head
head:
  %i = phi i64 [0, %entry], [%w, %made]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %make, label %exit
make:
  %at = mul i64 %i, 24
  %slot = getelementptr i8, ptr %slots, i64 %at
  %p.state = getelementptr i64, ptr %slot, i64 1
  store ptr %s, ptr %p.state
  %w = add i64 %i, 1
  %p.number = getelementptr i64, ptr %slot, i64 2
  store i64 %w, ptr %p.number
  %failed = call i32 @pthread_create(ptr %slot, ptr null, ptr @worker, ptr %slot)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %made, label %exit
made:
  br label %head
exit:
  %threads = add i64 %i, 1
  %p.threads = getelementptr i8, ptr %s, i64 {THREADS}
  store i64 %threads, ptr %p.threads
  ret i64 %i
}}
define i64 @pool_stop(ptr %s, i64 %count) {{
entry:
  %stop = getelementptr i8, ptr %s, i64 {STOP}
  %round = getelementptr i8, ptr %s, i64 4
  %slots = getelementptr i8, ptr %s, i64 {WORKERS}
  store atomic i32 1, ptr %stop seq_cst, align 4
  %o = atomicrmw add ptr %s, i64 4294967296 seq_cst
  call void @futex_wake(ptr %round, i32 2147483647)
  br label %head
head:
  %i = phi i64 [0, %entry], [%w, %join]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %join, label %exit
join:
  %at = mul i64 %i, 24
  %slot = getelementptr i8, ptr %slots, i64 %at
  %thread = load i64, ptr %slot
  %r = call i32 @pthread_join(i64 %thread, ptr null)
  %w = add i64 %i, 1
  br label %head
exit:
  ret i64 %i
}}
"""

_CALLER = """
define internal i1 @acquire(ptr %s) {{
  %busy = getelementptr i8, ptr %s, i64 {BUSY}
  %swap = cmpxchg ptr %busy, i32 0, i32 1 seq_cst seq_cst
  %won = extractvalue {{i32, i1}} %swap, 1
  ret i1 %won
}}
define internal void @publish(ptr %s, i64 %chunks, i32 %wanted) {{
entry:
  %job = getelementptr i8, ptr %s, i64 {JOB}
  %p.chunks = getelementptr i64, ptr %job, i64 8
  store i64 %chunks, ptr %p.chunks
  %p.mxcsr = getelementptr i64, ptr %job, i64 9
  call void @llvm.x86.sse.stmxcsr(ptr %p.mxcsr)
  %p.turn = getelementptr i64, ptr %job, i64 10
  %last = load i64, ptr %p.turn
  %later = add i64 %last, 1
  %turn = and i64 %later, 4294967295
  store i64 %turn, ptr %p.turn
  %done = getelementptr i8, ptr %s, i64 {DONE}
  store atomic i32 0, ptr %done seq_cst, align 4
  %step = add i64 4294967296, %chunks
  %o = atomicrmw add ptr %s, i64 %step seq_cst
  %sleepers = getelementptr i8, ptr %s, i64 {SLEEPERS}
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %exit, label %wake
wake:
  %round = getelementptr i8, ptr %s, i64 4
  call void @futex_wake(ptr %round, i32 %wanted)
  br label %exit
exit:
  ret void
}}
define internal void @finish(ptr %s, i64 %chunks) {{
entry:
  %all = trunc i64 %chunks to i32
  %done = getelementptr i8, ptr %s, i64 {DONE}
  %waiting = getelementptr i8, ptr %s, i64 {WAITING}
  %since = call i64 @llvm.readcyclecounter()
  br label %spin
spin:
  %d = load atomic i32, ptr %done acquire, align 4
  %finished = icmp eq i32 %d, %all
  br i1 %finished, label %exit, label %wait
wait:
  %now = call i64 @llvm.readcyclecounter()
  %spun = sub i64 %now, %since
  %patient = icmp ult i64 %spun, {SPIN}
  br i1 %patient, label %pause, label %sleep
pause:
  call void @llvm.x86.sse2.pause()
  br label %spin
sleep:
  store atomic i32 1, ptr %waiting seq_cst, align 4
  br label %check
check:
  %d2 = load atomic i32, ptr %done seq_cst, align 4
  %finished2 = icmp eq i32 %d2, %all
  br i1 %finished2, label %rise, label %doze
doze:
  call void @futex_wait(ptr %done, i32 %d2)
  br label %check
rise:
  store atomic i32 0, ptr %waiting seq_cst, align 4
  br label %exit
exit:
  ret void
}}
define internal void @release(ptr %s) {{
  %busy = getelementptr i8, ptr %s, i64 {BUSY}
  store atomic i32 0, ptr %busy seq_cst, align 4
  ret void
}}
define void @pool_probe(ptr %s) {{
entry:
  %won = call i1 @acquire(ptr %s)
  br i1 %won, label %go, label %exit
go:
  %job = getelementptr i8, ptr %s, i64 {JOB}
  store ptr @nothing, ptr %job
  %p.scratch = getelementptr i64, ptr %job, i64 7
  store i64 0, ptr %p.scratch
  call void @publish(ptr %s, i64 1, i32 1)
  call void @finish(ptr %s, i64 1)
  call void @release(ptr %s)
  br label %exit
exit:
  ret void
}}
define void @pool_run(ptr %s, ptr %kernel, i64 %outer, i64 %cut, ptr %table, ptr %params, i64 %entries,
                      i64 %scratch, ptr %status) {{
entry:
  %chunks = lshr i64 %cut, 32
  %grain = and i64 %cut, 4294967295
  %won = call i1 @acquire(ptr %s)
  br i1 %won, label %go, label %alone
alone:
  call void %kernel(ptr %table, ptr %params, i64 0, i64 %outer, ptr %status)
  ret void
go:
  %up = add i64 %outer, %grain
  %up1 = sub i64 %up, 1
  %units = udiv i64 %up1, %grain
  %job = getelementptr i8, ptr %s, i64 {JOB}
  store ptr %kernel, ptr %job
  %p.outer = getelementptr i64, ptr %job, i64 1
  store i64 %outer, ptr %p.outer
  %p.units = getelementptr i64, ptr %job, i64 2
  store i64 %units, ptr %p.units
  %p.grain = getelementptr i64, ptr %job, i64 3
  store i64 %grain, ptr %p.grain
  %p.table = getelementptr i64, ptr %job, i64 4
  store ptr %table, ptr %p.table
  %p.params = getelementptr i64, ptr %job, i64 5
  store ptr %params, ptr %p.params
  %p.entries = getelementptr i64, ptr %job, i64 6
  store i64 %entries, ptr %p.entries
  %p.scratch = getelementptr i64, ptr %job, i64 7
  store i64 %scratch, ptr %p.scratch
  %chunks32 = trunc i64 %chunks to i32
  %others = sub i32 %chunks32, 1
  call void @publish(ptr %s, i64 %chunks, i32 %others)
  call void @drain(ptr %s, i64 0)
  call void @finish(ptr %s, i64 %chunks)
  %statuses = getelementptr i8, ptr %s, i64 {STATUS}
  br label %scan
scan:
  %i = phi i64 [0, %go], [%next, %following]
  %p = getelementptr i32, ptr %statuses, i64 %i
  %code = load i32, ptr %p
  %good = icmp eq i32 %code, 0
  br i1 %good, label %following, label %bad
bad:
  store i32 0, ptr %p
  %old = load i32, ptr %status
  %first = icmp eq i32 %old, 0
  %kept = select i1 %first, i32 %code, i32 %old
  store i32 %kept, ptr %status
  br label %following
following:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %chunks
  br i1 %more, label %scan, label %exit
exit:
  call void @release(ptr %s)
  ret void
}}
"""


def pool_text() -> str:
    """The LLVM text that defines `ENTRIES`."""
    numbers = {
        "CLAIMS": CLAIMS, "SLEEPERS": SLEEPERS, "DONE": DONE, "WAITING": WAITING, "BUSY": BUSY, "STOP": STOP,
        "JOB": JOB, "CHUNKS": JOB + 64, "STATUS": STATUS, "WORKERS": WORKERS, "THREADS": THREADS,
        "HOMES": HOMES, "SPIN": SPIN,
    }  # fmt: skip
    return _HEAD + "".join(part.format(**numbers) for part in (_CHUNK, _WORKER, _CALLER))
