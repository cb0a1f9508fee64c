// LanceDB: IVF-PQ in files of its own, the best candidates compared again with their vectors.
'use strict'
const path = require('path')
const arrow = require('apache-arrow')
const lancedb = require('@lancedb/lancedb')
const c = require('./common.cjs')

// batch makes an Arrow table of the vectors, without a copy a row.
function batch (vectors, first, dims) {
  const n = vectors.length
  const flat = new Float32Array(n * dims)
  vectors.forEach((v, i) => flat.set(v, i * dims))
  const type = new arrow.FixedSizeList(dims, new arrow.Field('item', new arrow.Float32(), true))
  const child = arrow.makeData({ type: new arrow.Float32(), data: flat, length: flat.length, nullCount: 0 })
  const columns = [
    arrow.makeData({ type: new arrow.Int32(), data: Int32Array.from(vectors, (_, i) => first + i), length: n, nullCount: 0 }),
    arrow.makeData({ type: new arrow.Int32(), data: Int32Array.from(vectors, (_, i) => (first + i) % 100), length: n, nullCount: 0 }),
    arrow.makeData({ type, length: n, nullCount: 0, child })
  ]
  const schema = new arrow.Schema([new arrow.Field('id', new arrow.Int32(), true), new arrow.Field('grp', new arrow.Int32(), true), new arrow.Field('vector', type, true)])
  return new arrow.Table(schema, [new arrow.RecordBatch(schema, arrow.makeData({ type: new arrow.Struct(schema.fields), length: n, nullCount: 0, children: columns }))])
}

const searcher = (table, probes, refine, where) => async (q) => {
  let query = table.query().nearestTo(Array.from(q)).distanceType('cosine').nprobes(probes).refineFactor(refine).select(['id', '_distance']).limit(10)
  if (where) query = query.where(where)
  return (await query.toArray()).map((row) => row.id)
}

async function measure (set, work) {
  const dir = path.join(work, 'db')
  const db = await lancedb.connect(dir)
  const start = c.now()
  const table = await db.createTable('docs', batch(set.base, 0, set.dims))
  await table.createIndex('vector', { config: lancedb.Index.ivfPq({ distanceType: 'cosine', numPartitions: Math.round(Math.sqrt(set.rows)), numSubVectors: set.dims / 8 }) })
  const build = (c.now() - start) / 1000
  const size = c.bytes(dir)
  const records = []
  for (const [probes, refine] of [[5, 5], [10, 10], [20, 10], [50, 20]]) {
    records.push({ mode: `IVF-PQ, nprobes=${probes}`, cold_ms: c.cold(__filename, set.dir, dir, probes, refine),
      ...await c.timeSearches(set, 200, set.truth, searcher(table, probes, refine)) })
  }
  const filter = await c.timeSearches(set, 100, set.filter, searcher(table, 50, 20, 'grp = 7'))
  const inserts = c.now()
  for (let i = 0; i < 20; i++) await table.add(batch([set.extra[i]], set.rows + i, set.dims))
  const insert = (c.now() - inserts) / 20
  await table.delete('id % 2 = 1')
  await table.optimize({ cleanupOlderThan: new Date(), deleteUnverified: true })
  for (const r of records) {
    c.print({ peer: `lancedb ${c.version('@lancedb/lancedb')}`, build_s: build, row_bytes: size / set.rows, insert_ms: insert, filter_ms: filter.p50_ms,
      filter_recall: filter.recall, shrink: c.bytes(dir) / size, ...r })
  }
}

async function open (dir, file, probes, refine) {
  const set = c.readSet(dir, true)
  const start = c.now()
  const table = await (await lancedb.connect(file)).openTable('docs')
  await searcher(table, Number(probes), Number(refine))(set.query[0])
  console.log(c.now() - start)
}

c.main(measure, open)
