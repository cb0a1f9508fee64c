// LanceDB: IVF-PQ in files of its own, the best candidates compared again with their vectors.
'use strict'
const path = require('path')
const arrow = require('apache-arrow')
const lancedb = require('@lancedb/lancedb')
const c = require('./common.cjs')

// arrowTable makes an Arrow table of vectors that lie one after the other, without a copy of each.
function arrowTable (first, values, dims) {
  const n = values.length / dims
  const type = new arrow.FixedSizeList(dims, new arrow.Field('item', new arrow.Float32(), true))
  const child = arrow.makeData({ type: new arrow.Float32(), data: values, length: values.length, nullCount: 0 })
  const ids = Int32Array.from({ length: n }, (_, i) => first + i)
  const columns = [
    arrow.makeData({ type: new arrow.Int32(), data: ids, length: n, nullCount: 0 }),
    arrow.makeData({ type: new arrow.Int32(), data: ids.map((id) => id % 100), length: n, nullCount: 0 }),
    arrow.makeData({ type, length: n, nullCount: 0, child })
  ]
  const schema = new arrow.Schema([new arrow.Field('id', new arrow.Int32(), true), new arrow.Field('grp', new arrow.Int32(), true), new arrow.Field('vector', type, true)])
  return new arrow.Table(schema, [new arrow.RecordBatch(schema, arrow.makeData({ type: new arrow.Struct(schema.fields), length: n, nullCount: 0, children: columns }))])
}

async function measure (set, work) {
  const dir = path.join(work, 'db')
  const db = await lancedb.connect(dir)
  const start = c.now()
  let table
  for (const batch of c.batches(set, 100000)) {
    const rows = arrowTable(batch.first, batch.values, set.dims)
    if (table) await table.add(rows)
    else table = await db.createTable('docs', rows)
  }
  const parts = set.dims % 8 === 0 ? set.dims / 8 : set.dims / 4
  await table.createIndex('vector', { config: lancedb.Index.ivfPq({ distanceType: 'cosine', numPartitions: Math.round(Math.sqrt(set.rows)), numSubVectors: parts }) })
  const size = c.bytes(dir)
  const common = { peer: `lancedb ${c.version('@lancedb/lancedb')}`, build_s: (c.now() - start) / 1000, build_mb: c.memory().peak, row_bytes: size / set.rows }
  const truth = path.join(set.dir, 'truth.i32')
  const records = [[5, 5], [10, 10], [20, 10], [50, 20], [100, 50]].map(([probes, refine]) =>
    ({ mode: `IVF-PQ, nprobes=${probes}, refine=${refine}`, ...c.search(set, dir, 200, truth, probes, refine) }))
  const filter = c.search(set, dir, 100, path.join(set.dir, 'filter.i32'), 50, 20, 'grp = 7')
  Object.assign(common, { filter_ms: filter.p50_ms, filter_recall: filter.recall })
  const inserts = c.now()
  for (let i = 0; i < 20; i++) await table.add(arrowTable(set.rows + i, set.extra[i].slice(), set.dims))
  common.insert_ms = (c.now() - inserts) / 20
  await table.delete('id % 2 = 1')
  await table.optimize({ cleanupOlderThan: new Date(), deleteUnverified: true })
  common.shrink = c.bytes(dir) / size
  for (const r of records) c.print({ ...common, ...r })
}

async function open (set, dir, probes, refine, where) {
  const table = await (await lancedb.connect(dir)).openTable('docs')
  return async (q) => {
    let query = table.query().nearestTo(Array.from(q)).distanceType('cosine').nprobes(Number(probes)).refineFactor(Number(refine)).select(['id', '_distance']).limit(10)
    if (where) query = query.where(where)
    return (await query.toArray()).map((row) => row.id)
  }
}

c.main(measure, open)
