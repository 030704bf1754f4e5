"""Processes that read damaged inputs, and the loop that watches them."""

import multiprocessing
import os
import random
import resource
import tempfile
import time
import traceback
import zlib
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path

HANG_SECONDS = 60
MOST_BYTES = 2 * 2**30
WORKERS = 2


def work(kind_name: str, numbers: range, seed: int, scratch: Path, pipe: Connection) -> None:
    """Read the inputs of these numbers, and send the result of each: number, outcome, seconds, message."""
    import warnings

    from tests.fuzz.inputs import kinds

    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print about damage
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from ser_tf.errors import UserError

    kind = kinds(scratch)[kind_name]()
    names = list(kind.originals)
    folder = Path(tempfile.mkdtemp(dir=scratch))
    for name, content in (kind.originals | kind.beside).items():
        (folder / name).write_bytes(content)
    try:
        for name in names:
            kind.read(folder / name)
    except BaseException:
        pipe.send((-1, "failed", 0.0, f"the undamaged {name} is not read: {traceback.format_exc()}"))
        raise
    pipe.send((-1, "ready", 0.0, ""))
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        generator = random.Random(zlib.crc32(f"{kind_name} {seed} {number}".encode()))
        name = generator.choice(names)
        path = folder / name
        path.write_bytes(kind.damage(kind.originals[name], generator))
        pipe.send((number, "begun", 0.0, name))
        start, outcome, message = time.perf_counter(), "accepted", name
        try:
            kind.read(path)
        except UserError as error:
            outcome = "refused"
            if "\n" in str(error):
                outcome, message = "failed", f"{name}: a message of several lines: {error!r}"
        except BaseException:
            outcome, message = "failed", f"{name}: {traceback.format_exc()}"
        if 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > max(MOST_BYTES, 1024 * baseline + 2**29):
            outcome, message = "failed", f"{name}: more than 2 GB of memory"
        pipe.send((number, outcome, time.perf_counter() - start, message))
        path.write_bytes(kind.originals[name])
    pipe.send((-1, "done", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, ""))


class Worker:
    """A process and its current input."""

    def __init__(self, context, kind: str, numbers: range, seed: int, scratch: Path) -> None:
        self.numbers = numbers
        self.pipe, other = context.Pipe(duplex=False)
        self.process = context.Process(target=work, args=(kind, numbers, seed, scratch, other))
        self.process.start()
        other.close()
        self.at, self.since = -1, time.monotonic()


def fuzz(kind: str, numbers: range, seed: int, scratch: Path) -> tuple[Counter, list[tuple[int, str]], float, float]:
    """Outcomes, failures by input number, the slowest input's seconds, and the peak of memory in GiB."""
    context = multiprocessing.get_context("spawn")
    parts = [numbers[place::WORKERS] for place in range(min(WORKERS, len(numbers)))]
    first = Worker(context, kind, parts[0][:0], seed, scratch)  # makes the shared files once
    first.process.join()
    workers = [Worker(context, kind, part, seed, scratch) for part in parts]
    outcomes: Counter = Counter()
    failures: list[tuple[int, str]] = []
    slowest = peak = 0.0
    while workers:
        ready = wait([worker.pipe for worker in workers], timeout=1)
        for worker in list(workers):
            try:
                while worker.pipe in ready and worker.pipe.poll():
                    number, outcome, seconds, message = worker.pipe.recv()
                    worker.since = time.monotonic()
                    if outcome == "begun":
                        worker.at = number
                    elif outcome == "done":
                        peak = max(peak, seconds)
                        workers.remove(worker)
                    elif outcome != "ready":
                        outcomes[outcome] += 1
                        slowest = max(slowest, seconds)
                        if outcome == "failed":
                            failures.append((number, message))
                            print(f"  input {number}: {message}", flush=True)
                crashed = False
            except EOFError:
                crashed = True
            limit = HANG_SECONDS if worker.at >= 0 else 600  # making the originals is slow
            hung = worker in workers and time.monotonic() - worker.since > limit
            if crashed or hung:
                worker.process.kill()
                worker.process.join()
                workers.remove(worker)
                reason = f"no answer for {limit} s" if hung else f"the process died ({worker.process.exitcode})"
                outcomes["failed"] += 1
                failures.append((worker.at, reason))
                print(f"  input {worker.at}: {reason}", flush=True)
                left = [number for number in worker.numbers if number > worker.at]
                if left and worker.at >= 0:
                    rest = worker.numbers[worker.numbers.index(left[0]) :]
                    workers.append(Worker(context, kind, rest, seed, scratch))
    return outcomes, failures, slowest, peak
