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
  set.base.forEach((v, id) => index.add(BigInt(id), v))
  const build = (c.now() - start) / 1000
  index.save(file)
  const size = c.bytes(file)
  const records = []
  for (const ef of [16, 32, 64, 128, 256, 512]) {
    const loaded = create(set.dims, ef) // the width of a search is fixed when an index is made
    loaded.load(file)
    records.push({ mode: `ef=${ef}`, cold_ms: c.cold(__filename, set.dir, file, ef),
      ...await c.timeSearches(set, 500, set.truth, async (q) => loaded.search(q, 10, 1).keys) })
  }
  const inserts = c.now()
  set.extra.forEach((v, i) => index.add(BigInt(set.rows + i), v))
  const insert = (c.now() - inserts) / set.extra.length
  for (let id = 1; id < set.rows; id += 2) index.remove(BigInt(id))
  index.save(file)
  for (const r of records) {
    c.print({ peer: `usearch ${c.version('usearch')}`, in_memory: true, build_s: build, row_bytes: size / set.rows, insert_ms: insert, shrink: c.bytes(file) / size, ...r })
  }
}

async function open (dir, file, ef) {
  const set = c.readSet(dir, true)
  const start = c.now()
  const index = create(set.dims, Number(ef))
  index.load(file)
  index.search(set.query[0], 10, 1)
  console.log(c.now() - start)
}

c.main(measure, open)
