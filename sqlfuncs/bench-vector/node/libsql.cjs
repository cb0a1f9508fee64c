// libSQL: a DiskANN index inside the SQLite file.
'use strict'
const path = require('path')
const Database = require('libsql')
const c = require('./common.cjs')

const search = "SELECT id FROM vector_top_k('docs_embedding', ?, 10)"
const blob = (v) => Buffer.from(v.buffer, v.byteOffset, v.byteLength)

function connect (file) {
  const db = new Database(file)
  for (const pragma of ['journal_mode = WAL', 'synchronous = NORMAL', 'cache_size = -65536']) db.exec(`PRAGMA ${pragma}`)
  return db
}

// A row takes some 10 ms to go into the graph. After this time the rest is left out; recall is then
// not measured, since the nearest rows may be among those.
const mostSeconds = 120

async function measure (set, work) {
  const file = path.join(work, 'docs.db')
  const db = connect(file)
  db.exec(`CREATE TABLE docs(id INTEGER PRIMARY KEY, grp INTEGER, embedding F32_BLOB(${set.dims}))`)
  db.exec("CREATE INDEX docs_embedding ON docs(libsql_vector_idx(embedding, 'metric=cosine', 'compress_neighbors=float8', 'max_neighbors=50'))")
  const insert = db.prepare('INSERT INTO docs VALUES (?, ?, ?)')
  const start = c.now()
  let rows = 0
  while (rows < set.rows && (c.now() - start) / 1000 < mostSeconds) {
    db.exec('BEGIN')
    for (const end = Math.min(rows + 500, set.rows); rows < end; rows++) insert.run(rows, rows % 100, blob(set.base[rows]))
    db.exec('COMMIT')
  }
  const build = (c.now() - start) / 1000
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  const size = c.bytes(file)
  const statement = db.prepare(search)
  const record = { mode: 'DiskANN, float8', cold_ms: c.cold(__filename, set.dir, file),
    ...await c.timeSearches(set, 200, set.truth, async (q) => statement.all([blob(q)]).map((row) => row.id)) }
  if (rows < set.rows) {
    record.mode += `, the first ${rows} rows only`
    record.recall = 0
  }
  const inserts = c.now()
  set.extra.forEach((v, i) => insert.run(rows + i, 0, blob(v)))
  record.insert_ms = (c.now() - inserts) / set.extra.length
  const deletes = c.now()
  const remove = db.prepare('DELETE FROM docs WHERE id = ?')
  let id = 1
  for (; id < rows && (c.now() - deletes) / 1000 < mostSeconds; id += 2) remove.run(id)
  if (id >= rows) {
    db.exec('VACUUM')
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    record.shrink = c.bytes(file) / size
  }
  c.print({ peer: `libsql ${c.version('libsql')}`, build_s: build, row_bytes: size / rows, ...record })
}

async function open (dir, file) {
  const set = c.readSet(dir, true)
  const start = c.now()
  if (connect(file).prepare(search).all([blob(set.query[0])]).length !== 10) throw new Error('not ten results')
  console.log(c.now() - start)
}

c.main(measure, open)
