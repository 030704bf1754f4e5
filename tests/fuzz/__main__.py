"""`make fuzz`: damaged files and arguments; any exception but `UserError`, a crash, a hang or 2 GB of memory fails.

    python -m tests.fuzz [--inputs 100000] [--seed 0] [--kind KIND] [--input NUMBER]

A failure prints the command that repeats it. Two worker processes run; one that crashes or hangs is replaced.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.inputs import SHARES
from tests.fuzz.workers import fuzz


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(SHARES))
    parser.add_argument("--input", type=int)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ser-tf-fuzz-"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["SER_TF_CACHE"] = str(scratch / "cache")
    failed = False
    try:
        print(f"{'kind':<16} {'inputs':>8} {'refused':>8} {'accepted':>8} {'failed':>7} {'slowest':>8} {'memory':>9}")
        for kind, share in SHARES.items():
            if arguments.kind not in (None, kind):
                continue
            count = round(share * arguments.inputs)
            numbers = range(count) if arguments.input is None else range(arguments.input, arguments.input + 1)
            outcomes, failures, slowest, peak = fuzz(kind, numbers, arguments.seed, scratch)
            failed |= bool(failures)
            counts = " ".join(f"{outcomes[name]:>8}" for name in ("refused", "accepted"))
            print(
                f"{kind:<16} {len(numbers):>8} {counts} {outcomes['failed']:>7} {slowest:>6.1f} s {peak:>5.2f} GiB",
                flush=True,
            )
            for number, _ in failures[:10]:
                print(f"  again: python -m tests.fuzz --kind '{kind}' --seed {arguments.seed} --input {number}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
