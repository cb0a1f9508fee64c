"""FAISS from Debian's python3-faiss: IVF with whole vectors, in memory."""
import os
import time

import faiss
import numpy as np

import common

faiss.omp_set_num_threads(1)
PER_LIST = 64  # rows for each centroid that training looks at


def build(vectors, work):
    file, lists = os.path.join(work, "index"), min(4096, max(64, vectors.rows // 100))
    start = time.perf_counter()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.dims), vectors.dims, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = PER_LIST
    # The rows are in random order, so that the first are a sample.
    index.train(vectors.read("base.f32", vectors.dims, rows=min(vectors.rows, PER_LIST * lists)))
    for _, batch in vectors.batches(10_000):
        index.add(batch)
    record = {"peer": f"FAISS {faiss.__version__} IVF", "in_memory": True, "build_s": time.perf_counter() - start, "build_mb": common.memory()[0]}
    faiss.write_index(index, file)
    size = os.path.getsize(file)
    record["row_bytes"] = size / vectors.rows
    truth = vectors.truth(vectors.rows, work)
    found = {f"nprobe={n}": common.search(vectors, file, 500, truth, n) for n in (4, 8, 16, 32, 64, 128, 256)}
    filtered = common.search(vectors, file, 500, os.path.join(vectors.folder, "filter.i32"), "filter")
    record["filter_ms"], record["filter_recall"] = filtered["p50_ms"], filtered["recall"]
    start = time.perf_counter()
    for v in vectors.extra:
        index.add(v[None])
    record["insert_ms"] = common.milliseconds(start) / len(vectors.extra)
    index.remove_ids(faiss.IDSelectorBatch(np.arange(1, vectors.rows, 2)))
    faiss.write_index(index, file)
    record["shrink"] = os.path.getsize(file) / size
    for mode in found:
        yield {**record, "mode": mode, **found[mode]}


def open_index(vectors, file, mode):
    index = faiss.read_index(file)
    if mode == "filter":
        selector = faiss.IDSelectorBatch(np.arange(7, vectors.rows, 100))
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=128)
        return lambda q: index.search(q[None], 10, params=parameters)[1][0]
    index.nprobe = int(mode)
    return lambda q: index.search(q[None], 10)[1][0]


common.main(build, open_index)
