"""FAISS from Debian's python3-faiss: IVF with whole vectors, in memory.

faiss_bench.py SET_FOLDER WORK_FOLDER prints a JSON line for each way to search; the fields are
those of record in main.go. "cold SET_FOLDER FILE" is how it calls itself for a cold start.
"""
import json
import os
import subprocess
import sys
import time

import faiss
import numpy as np

faiss.omp_set_num_threads(1)


def read(folder, name, width, kind=np.float32):
    return np.fromfile(os.path.join(folder, name), kind).reshape(-1, width)


def time_searches(queries, truth, search):
    for q in queries[:3]:
        search(q[None])
    times, hits = [], 0
    for q, want in zip(queries, truth):
        start = time.perf_counter()
        ids = search(q[None])
        times.append((time.perf_counter() - start) * 1000)
        hits += len(set(ids.tolist()) & set(want.tolist()))
    times.sort()
    n = len(times)
    return {"recall": hits / n / 10, "p50_ms": times[n // 2], "p95_ms": times[n * 95 // 100]}


def cold(folder, file):
    times = []
    for _ in range(3):
        run = subprocess.run([sys.executable, __file__, "cold", folder, file], capture_output=True, text=True, check=True)
        times.append(float(run.stdout))
    return sorted(times)[1]


def measure(folder, work):
    with open(os.path.join(folder, "meta.json")) as f:
        meta = json.load(f)
    dims, rows = meta["dims"], meta["rows"]
    base, extra, queries = (read(folder, part, dims) for part in ("base.f32", "extra.f32", "query.f32"))
    truth, filtered = (read(folder, part, 10, np.int32) for part in ("truth.i32", "filter.i32"))
    start = time.perf_counter()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dims), dims, max(64, rows // 100), faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.train(base)
    index.add(base)
    common = {"peer": f"FAISS {faiss.__version__} IVF", "in_memory": True, "build_s": time.perf_counter() - start}
    file = os.path.join(work, "index")
    faiss.write_index(index, file)
    size = os.path.getsize(file)
    common["row_bytes"] = size / rows
    common["cold_ms"] = cold(folder, file)
    records = []
    for index.nprobe in (4, 8, 16, 32, 64, 128, 256):
        records.append({"mode": f"nprobe={index.nprobe}", **time_searches(queries, truth, lambda q: index.search(q, 10)[1][0])})
    selector = faiss.IDSelectorBatch(np.arange(7, rows, 100))
    parameters = faiss.SearchParametersIVF(sel=selector, nprobe=128)
    found = time_searches(queries, filtered, lambda q: index.search(q, 10, params=parameters)[1][0])
    common["filter_ms"], common["filter_recall"] = found["p50_ms"], found["recall"]
    start = time.perf_counter()
    for v in extra:
        index.add(v[None])
    common["insert_ms"] = (time.perf_counter() - start) * 1000 / len(extra)
    index.remove_ids(faiss.IDSelectorBatch(np.arange(1, rows, 2)))
    faiss.write_index(index, file)
    common["shrink"] = os.path.getsize(file) / size
    for record in records:
        print(json.dumps({**common, **record}), flush=True)


if sys.argv[1] == "cold":
    with open(os.path.join(sys.argv[2], "meta.json")) as f:
        query = read(sys.argv[2], "query.f32", json.load(f)["dims"])[:1]
    start = time.perf_counter()
    faiss.read_index(sys.argv[3]).search(query, 10)
    print((time.perf_counter() - start) * 1000)
else:
    measure(sys.argv[1], sys.argv[2])
