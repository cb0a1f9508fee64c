"""hnswlib from Debian's python3-hnswlib: HNSW in memory, saved to a file."""
import os
import time

import hnswlib
import numpy as np

import common


def build(vectors, work):
    file, rows = os.path.join(work, "index"), 0
    start = time.perf_counter()
    index = hnswlib.Index("cosine", vectors.dims)
    index.init_index(vectors.rows + len(vectors.extra), ef_construction=128, M=16)
    index.set_num_threads(1)
    for first, batch in vectors.batches(100):
        index.add_items(batch, np.arange(first, first + len(batch)))
        rows += len(batch)
        if time.perf_counter() - start > float(os.environ["VELOSYNC_BENCH_BUILD_SECONDS"]):
            break
    record = {"peer": "hnswlib 0.6.2", "in_memory": True, "build_s": time.perf_counter() - start, "build_mb": common.memory()[0]}
    if rows < vectors.rows:
        record["rows"] = rows
    index.save_index(file)
    record["row_bytes"] = os.path.getsize(file) / rows
    truth = vectors.truth(rows, work)
    found = {f"ef={ef}": common.search(vectors, file, 500, truth, ef) for ef in (16, 32, 64, 128, 256, 512)}
    start = time.perf_counter()
    for i, v in enumerate(vectors.extra):
        index.add_items(v[None], [vectors.rows + i])
    record["insert_ms"] = common.milliseconds(start) / len(vectors.extra)
    for mode in found:
        yield {**record, "mode": mode, **found[mode]}


def open_index(vectors, file, mode):
    index = hnswlib.Index("cosine", vectors.dims)
    index.load_index(file)
    index.set_num_threads(1)
    index.set_ef(int(mode))
    return lambda q: index.knn_query(q, 10)[0][0]


common.main(build, open_index)
