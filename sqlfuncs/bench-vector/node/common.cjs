// What the runners in Node share. A runner is called with "build", the folder of the vectors and one
// for its files, and prints a JSON line for each way to search; the fields are those of record in
// peers.go. It calls itself with "search" for what a fresh process has to measure.
'use strict'
const fs = require('fs')
const path = require('path')
const { spawnSync } = require('child_process')

function rows (file, width, Type) {
  const bytes = fs.readFileSync(file)
  const all = new Type(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  return Array.from({ length: all.length / width }, (_, i) => all.subarray(i * width, (i + 1) * width))
}

// readSet reads all but the rows of base.
function readSet (dir) {
  const set = JSON.parse(fs.readFileSync(path.join(dir, 'meta.json')))
  set.dir = dir
  set.query = rows(path.join(dir, 'query.f32'), set.dims, Float32Array)
  set.extra = rows(path.join(dir, 'extra.f32'), set.dims, Float32Array)
  return set
}

// batches reads the rows of base, n at a time: so a runner has no more of them in memory than its
// peer has. A batch is good until the next one.
function * batches (set, n) {
  const file = fs.openSync(path.join(set.dir, 'base.f32'))
  const values = new Float32Array(Math.min(n, set.rows) * set.dims)
  for (let first = 0; first < set.rows; first += n) {
    const size = Math.min(n, set.rows - first)
    const part = values.subarray(0, size * set.dims)
    const read = fs.readSync(file, part)
    if (read !== part.byteLength) throw new Error(`${set.dir}: the rows end at ${first}`)
    yield { first, size, values: part, row: (i) => part.subarray(i * set.dims, (i + 1) * set.dims) }
  }
  fs.closeSync(file)
}

const now = () => Number(process.hrtime.bigint()) / 1e6

// deadline tells whether building an index is to be stopped.
function deadline () {
  const until = now() + 1000 * Number(process.env.VELOSYNC_BENCH_BUILD_SECONDS)
  return () => now() > until
}

// memory returns the most memory in MB that this process has had resident, and how much it now has
// of mapped files; zeros where there is no /proc.
function memory () {
  let status = ''
  try { status = fs.readFileSync('/proc/self/status', 'utf8') } catch {}
  const field = (name) => Number((status.match(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm')) || [0, 0])[1]) / 1000
  return { peak: field('VmHWM'), mapped: field('RssFile') }
}

// bytes is the size of a file or of everything in a folder.
function bytes (file) {
  if (!fs.existsSync(file)) return 0
  const info = fs.statSync(file)
  return info.isDirectory() ? fs.readdirSync(file).reduce((sum, name) => sum + bytes(path.join(file, name)), 0) : info.size
}

// truth returns the file with the truth among the first rows.
function truth (set, count, work) {
  if (count === set.rows) return path.join(set.dir, 'truth.i32')
  const file = path.join(work, 'truth.i32')
  run(process.env.VELOSYNC_BENCH, 'truth', set.dir, count, file)
  return file
}

function run (program, ...args) {
  const done = spawnSync(program, args.map(String), { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(done.stderr || String(done.error))
  return done.stdout
}

// search measures in a fresh process that opens file: first all of it with up to count queries, then
// twice more how long the first answer takes, of which the median counts.
function search (set, file, count, truthFile, ...mode) {
  const found = [count, 0, 0].map((n) => JSON.parse(run(process.execPath, process.argv[1], 'search', set.dir, file, n, truthFile, ...mode)))
  found[0].cold_ms = found.map((f) => f.cold_ms).sort((a, b) => a - b)[1]
  return found[0]
}

// measureSearch is that process. open(set, file, ...mode) returns a function from query to ids.
async function measureSearch (open, dir, file, count, truthFile, ...mode) {
  const set = readSet(dir)
  const start = now()
  const answer = await open(set, file, ...mode)
  if ((await answer(set.query[0])).length !== 10) throw new Error('not ten results')
  const found = { cold_ms: now() - start }
  if (Number(count) > 0) {
    const warm = now()
    for (const q of set.extra) {
      if (now() - warm > 1000) break
      await answer(q)
    }
    const wanted = rows(truthFile, 10, Int32Array)
    const times = []
    let hits = 0
    const began = now()
    for (let i = 0; i < Math.min(count, set.query.length) && now() - began < 20000; i++) {
      const start = now()
      const ids = await answer(set.query[i])
      times.push(now() - start)
      const want = new Set(wanted[i])
      for (const id of ids) if (want.has(Number(id))) hits++
    }
    times.sort((a, b) => a - b)
    const { peak, mapped } = memory()
    Object.assign(found, { recall: hits / times.length / 10, p50_ms: times[times.length >> 1], p95_ms: times[Math.floor(times.length * 0.95)], search_mb: peak, mapped_mb: mapped })
  }
  print(found)
}

function print (record) { console.log(JSON.stringify(record)) }

// main calls measure(set, work), or open for a search.
function main (measure, open) {
  const args = process.argv.slice(3)
  const work = process.argv[2] === 'search' ? measureSearch(open, ...args) : measure(readSet(args[0]), args[1])
  work.then(() => process.exit(0), (err) => { console.error(err.message || err); process.exit(1) })
}

function version (name) {
  let dir = path.dirname(require.resolve(name))
  while (!fs.existsSync(path.join(dir, 'package.json')) || !JSON.parse(fs.readFileSync(path.join(dir, 'package.json'))).version) dir = path.dirname(dir)
  return JSON.parse(fs.readFileSync(path.join(dir, 'package.json'))).version
}

module.exports = { batches, now, deadline, memory, bytes, truth, search, print, main, version }
