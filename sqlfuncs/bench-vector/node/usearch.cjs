// usearch: HNSW in memory, saved to a file.
'use strict'
const path = require('path')
const usearch = require('usearch')
const c = require('./common.cjs')

const create = (dims, ef) => new usearch.Index({ dimensions: dims, metric: 'cos', connectivity: 16, quantization: 'f32', expansion_add: 128, expansion_search: ef })

async function measure (set, work) {
  const file = path.join(work, 'index')
  const index = create(set.dims, 64)
  const start = c.now()
  const rows = add(index, set)
  const common = { peer: `usearch ${c.version('usearch')}`, in_memory: true, build_s: (c.now() - start) / 1000, build_mb: c.memory().peak }
  if (rows < set.rows) common.rows = rows
  index.save(file)
  const size = c.bytes(file)
  common.row_bytes = size / rows
  const truth = c.truth(set, rows, work)
  const records = [16, 32, 64, 128, 256, 512].map((ef) => ({ mode: `ef=${ef}`, ...c.search(set, file, 500, truth, ef) }))
  const inserts = c.now()
  set.extra.forEach((v, i) => index.add(BigInt(set.rows + i), v))
  common.insert_ms = (c.now() - inserts) / set.extra.length
  for (let id = 1; id < rows; id += 2) index.remove(BigInt(id))
  index.save(file)
  common.shrink = c.bytes(file) / size
  for (const r of records) c.print({ ...common, ...r })
}

// add returns how many rows are in the index before the building is stopped.
function add (index, set) {
  const late = c.deadline()
  for (const batch of c.batches(set, 1000)) {
    for (let i = 0; i < batch.size; i++) {
      index.add(BigInt(batch.first + i), batch.row(i))
      if (late()) return batch.first + i + 1
    }
  }
  return set.rows
}

// open loads the index; the width of a search is fixed when it is made.
async function open (set, file, ef) {
  const index = create(set.dims, Number(ef))
  index.load(file)
  return async (q) => index.search(q, 10, 1).keys
}

c.main(measure, open)
