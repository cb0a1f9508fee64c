"""What the runners in Python share.

A runner is called with "build", the folder of the vectors and one for its files, and prints a JSON
line for each way to search; the fields are those of record in peers.go. It calls itself with
"search" for what a fresh process has to measure.
"""
import json
import os
import subprocess
import sys
import time

import numpy as np


def milliseconds(since):
    return (time.perf_counter() - since) * 1000


def memory():
    """The most memory in MB that this process has had resident, and what it now has of mapped files."""
    fields = {}
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as f:
            fields = dict(line.split(":", 1) for line in f)
    return [int(fields.get(name, "0 kB").split()[0]) / 1000 for name in ("VmHWM", "RssFile")]


class Set:
    """The vectors, less the rows of base, which batches() reads: so a runner has no more of them in
    memory than its peer has."""

    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "meta.json")) as f:
            meta = json.load(f)
        self.rows, self.dims = meta["rows"], meta["dims"]
        self.extra, self.queries = self.read("extra.f32", self.dims), self.read("query.f32", self.dims)

    def read(self, name, width, kind=np.float32, rows=-1):
        count = rows if rows < 0 else rows * width
        return np.fromfile(os.path.join(self.folder, name), kind, count).reshape(-1, width)

    def batches(self, size):
        with open(os.path.join(self.folder, "base.f32"), "rb") as f:
            for first in range(0, self.rows, size):
                yield first, np.fromfile(f, np.float32, size * self.dims).reshape(-1, self.dims)

    def truth(self, rows, work):
        """The file with the truth among the first rows."""
        if rows == self.rows:
            return os.path.join(self.folder, "truth.i32")
        file = os.path.join(work, "truth.i32")
        subprocess.run([os.environ["VELOSYNC_BENCH"], "truth", self.folder, str(rows), file], check=True)
        return file


def search(vectors, file, queries, truth, mode):
    """Measures in a fresh process that opens file: first all of it, then twice more how long the
    first answer takes, of which the median counts."""
    found = []
    for n in (queries, 0, 0):
        run = subprocess.run([sys.executable, sys.argv[0], "search", vectors.folder, file, str(n), truth, str(mode)],
                             capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(run.stderr)
        found.append(json.loads(run.stdout))
    return {**found[0], "cold_ms": sorted(f["cold_ms"] for f in found)[1]}


def measure_search(open_index, folder, file, queries, truth, mode):
    """Is that process. open_index(vectors, file, mode) returns a function from query to ids."""
    vectors = Set(folder)
    start = time.perf_counter()
    answer = open_index(vectors, file, mode)
    if len(answer(vectors.queries[0])) != 10:
        sys.exit("not ten results")
    found = {"cold_ms": milliseconds(start)}
    if int(queries) > 0:
        warm = time.perf_counter()
        for q in vectors.extra:
            if milliseconds(warm) > 1000:
                break
            answer(q)
        times, hits, began = [], 0, time.perf_counter()
        for q, want in zip(vectors.queries[:int(queries)], np.fromfile(truth, np.int32).reshape(-1, 10)):
            start = time.perf_counter()
            ids = answer(q)
            times.append(milliseconds(start))
            hits += len(set(ids.tolist()) & set(want.tolist()))
            if milliseconds(began) > 20_000:
                break
        times.sort()
        n = len(times)
        peak, mapped = memory()
        found.update(recall=hits / n / 10, p50_ms=times[n // 2], p95_ms=times[n * 95 // 100], search_mb=peak, mapped_mb=mapped)
    print(json.dumps(found))


def main(build, open_index):
    if sys.argv[1] == "search":
        measure_search(open_index, *sys.argv[2:])
    else:
        for record in build(Set(sys.argv[2]), sys.argv[3]):
            print(json.dumps(record), flush=True)
