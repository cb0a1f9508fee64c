// libSQL: a DiskANN index inside the SQLite file.
'use strict'
const path = require('path')
const Database = require('libsql')
const c = require('./common.cjs')

const blob = (v) => Buffer.from(v.buffer, v.byteOffset, v.byteLength)

function connect (file) {
  const db = new Database(file)
  for (const pragma of ['journal_mode = WAL', 'synchronous = NORMAL', 'cache_size = -65536']) db.exec(`PRAGMA ${pragma}`)
  return db
}

async function measure (set, work) {
  const file = path.join(work, 'docs.db')
  const db = connect(file)
  db.exec(`CREATE TABLE docs(id INTEGER PRIMARY KEY, grp INTEGER, embedding F32_BLOB(${set.dims}))`)
  db.exec("CREATE INDEX docs_embedding ON docs(libsql_vector_idx(embedding, 'metric=cosine', 'compress_neighbors=float8', 'max_neighbors=50'))")
  const insert = db.prepare('INSERT INTO docs VALUES (?, ?, ?)')
  const start = c.now()
  const rows = add(db, insert, set)
  const record = { peer: `libsql ${c.version('libsql')}`, mode: 'DiskANN, float8', build_s: (c.now() - start) / 1000, build_mb: c.memory().peak }
  if (rows < set.rows) record.rows = rows
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  const size = c.bytes(file)
  record.row_bytes = size / rows
  Object.assign(record, c.search(set, file, 200, c.truth(set, rows, work)))
  const inserts = c.now()
  set.extra.forEach((v, i) => insert.run(set.rows + i, 0, blob(v)))
  record.insert_ms = (c.now() - inserts) / set.extra.length
  if (removeHalf(db, rows)) {
    db.exec('VACUUM')
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    record.shrink = c.bytes(file) / size
  }
  c.print(record)
}

// add returns how many rows are in the graph before the building is stopped: each takes some 10 ms.
function add (db, insert, set) {
  const late = c.deadline()
  for (const batch of c.batches(set, 500)) {
    db.exec('BEGIN')
    let i = 0
    while (i < batch.size && !late()) {
      insert.run(batch.first + i, (batch.first + i) % 100, blob(batch.row(i)))
      i++
    }
    db.exec('COMMIT')
    if (i < batch.size) return batch.first + i
  }
  return set.rows
}

// removeHalf tells whether there was time enough: a row takes as long as to insert it.
function removeHalf (db, rows) {
  const late = c.deadline()
  const remove = db.prepare('DELETE FROM docs WHERE id = ?')
  for (let id = 1; id < rows; id += 2) {
    if (late()) return false
    remove.run(id)
  }
  return true
}

async function open (set, file) {
  const statement = connect(file).prepare("SELECT id FROM vector_top_k('docs_embedding', ?, 10)")
  return async (q) => statement.all([blob(q)]).map((row) => row.id)
}

c.main(measure, open)
