// What the runners in Node share. A runner is called with the folder of the vectors and one for its
// files, and prints a JSON line for each way to search; the fields are those of record in main.go.
'use strict'
const fs = require('fs')
const path = require('path')
const { spawnSync } = require('child_process')

function rows (file, width, Type) {
  const bytes = fs.readFileSync(file)
  const all = new Type(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  return Array.from({ length: all.length / width }, (_, i) => all.subarray(i * width, (i + 1) * width))
}

function readSet (dir, queriesOnly = false) {
  const set = JSON.parse(fs.readFileSync(path.join(dir, 'meta.json')))
  set.dir = dir
  set.query = rows(path.join(dir, 'query.f32'), set.dims, Float32Array)
  if (!queriesOnly) {
    set.base = rows(path.join(dir, 'base.f32'), set.dims, Float32Array)
    set.extra = rows(path.join(dir, 'extra.f32'), set.dims, Float32Array)
    set.truth = rows(path.join(dir, 'truth.i32'), 10, Int32Array)
    set.filter = rows(path.join(dir, 'filter.i32'), 10, Int32Array)
  }
  return set
}

const now = () => Number(process.hrtime.bigint()) / 1e6

// bytes is the size of a file or of everything in a folder.
function bytes (file) {
  if (!fs.existsSync(file)) return 0
  const info = fs.statSync(file)
  return info.isDirectory() ? fs.readdirSync(file).reduce((sum, name) => sum + bytes(path.join(file, name)), 0) : info.size
}

// timeSearches calls search with the first n queries, after three to warm up.
async function timeSearches (set, n, truth, search) {
  n = Math.min(n, set.query.length)
  for (const q of set.query.slice(0, 3)) await search(q)
  const times = []
  let hits = 0
  for (let i = 0; i < n; i++) {
    const start = now()
    const ids = await search(set.query[i])
    times.push(now() - start)
    const want = new Set(truth[i])
    for (const id of ids) if (want.has(Number(id))) hits++
  }
  times.sort((a, b) => a - b)
  return { recall: hits / n / 10, p50_ms: times[n >> 1], p95_ms: times[Math.floor(n * 0.95)] }
}

// cold runs script in three fresh processes, which print the milliseconds from open to answer.
function cold (script, ...args) {
  const times = []
  for (let i = 0; i < 3; i++) {
    const run = spawnSync(process.execPath, [script, 'cold', ...args.map(String)], { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(run.stderr)
    times.push(parseFloat(run.stdout))
  }
  return times.sort((a, b) => a - b)[1]
}

function print (record) { console.log(JSON.stringify(record)) }

// main calls measure(set, work), or open(args) where the runner calls itself for a cold start.
function main (measure, open) {
  const args = process.argv.slice(2)
  const work = args[0] === 'cold' ? open(...args.slice(1)) : measure(readSet(args[0]), args[1])
  work.then(() => process.exit(0), (err) => { console.error(err.message || err); process.exit(1) })
}

function version (name) {
  let dir = path.dirname(require.resolve(name))
  while (!fs.existsSync(path.join(dir, 'package.json')) || !JSON.parse(fs.readFileSync(path.join(dir, 'package.json'))).version) dir = path.dirname(dir)
  return JSON.parse(fs.readFileSync(path.join(dir, 'package.json'))).version
}

module.exports = { readSet, now, bytes, timeSearches, cold, print, main, version }
