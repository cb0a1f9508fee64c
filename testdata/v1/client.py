"""A client of VeloSync protocol v1, as a program for tests: one database file, one device.

    client.py FILE init DEVICE
    client.py FILE put ID EMBEDDING [WEIGHT [TIME [METADATA]]]
    client.py FILE delete ID [TIME]
    client.py FILE sync URL [lose-push | lose-answer | lose-ack | keep-log]
    client.py FILE dump
    client.py FILE serve

It needs Python 3 alone. put and delete write the row, its version vector and the log in
one transaction. sync sends the log, compacted, applies the answer and acknowledges it;
only then it truncates the log. It tries 5xx answers again, three times with doubling
waits, and never a 4xx: those end it with status 4 and the detail on stderr. The options
of sync end it where an answer gets lost. sync and dump print JSON. serve reads commands
as lines of JSON, ["put", "x", "[1, 2]"], and answers each with a line: {"result": ...} or
{"status": 4, "detail": "..."}.
"""

import array
import hashlib
import json
import sqlite3
import sys
import time
import urllib.error
import urllib.request

SCHEMA = """
CREATE TABLE vectors(
  vector_id TEXT PRIMARY KEY, embedding BLOB, dimension INTEGER, metadata TEXT,
  semantic_weight REAL, updated_at REAL);
CREATE TABLE version(
  vector_id TEXT PRIMARY KEY, clock TEXT NOT NULL, is_deleted INTEGER NOT NULL,
  semantic_weight REAL NOT NULL, updated_at REAL NOT NULL);
CREATE TABLE log(lsn INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, vector_id TEXT NOT NULL);
CREATE TABLE state(key TEXT PRIMARY KEY, value);
"""


class Client:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA synchronous = OFF")  # tests cut no power

    def init(self, device):
        self.db.executescript(SCHEMA)
        self.db.execute("INSERT INTO state VALUES ('device_id', ?), ('base_lsn', 0)", (device,))

    def state(self, key):
        return self.db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()[0]

    # Local writes.

    def clock(self, vector_id):
        row = self.db.execute("SELECT clock FROM version WHERE vector_id = ?", (vector_id,)).fetchone()
        return json.loads(row[0]) if row else {}

    def write(self, vector_id, embedding, metadata, weight, updated_at, deleted):
        device = self.state("device_id")
        clock = self.clock(vector_id)
        clock[device] = clock.get(device, 0) + 1
        there = self.db.execute("SELECT 1 FROM vectors WHERE vector_id = ?", (vector_id,)).fetchone()
        op = "DELETE" if deleted else "UPDATE" if there else "INSERT"
        self.db.execute("BEGIN IMMEDIATE")
        self.store(vector_id, embedding, metadata, weight, updated_at, deleted, clock)
        self.db.execute("INSERT INTO log (op, vector_id) VALUES (?, ?)", (op, vector_id))
        self.db.execute("COMMIT")

    def store(self, vector_id, embedding, metadata, weight, updated_at, deleted, clock):
        if deleted:
            self.db.execute("DELETE FROM vectors WHERE vector_id = ?", (vector_id,))
        else:
            blob = array.array("d", embedding).tobytes()
            self.db.execute(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?, ?)",
                (vector_id, blob, len(embedding), json.dumps(metadata), weight, updated_at))
        self.db.execute(
            "INSERT OR REPLACE INTO version VALUES (?, ?, ?, ?, ?)",
            (vector_id, json.dumps(clock), int(deleted), weight, updated_at))

    def record(self, vector_id):
        row = self.db.execute(
            "SELECT clock, is_deleted, semantic_weight, updated_at FROM version WHERE vector_id = ?", (vector_id,)).fetchone()
        if row is None:
            return None
        clock, deleted, weight, updated_at = row
        record = {
            "vector_id": vector_id, "embedding": [], "metadata": {}, "semantic_weight": weight,
            "version_vector": json.loads(clock), "updated_at": updated_at, "is_deleted": bool(deleted)}
        if not deleted:
            blob, metadata = self.db.execute("SELECT embedding, metadata FROM vectors WHERE vector_id = ?", (vector_id,)).fetchone()
            embedding = array.array("d")
            embedding.frombytes(blob)
            record["embedding"] = list(embedding)
            record["metadata"] = json.loads(metadata)
        return record

    # The round.

    def sync(self, url, option):
        log = self.db.execute("SELECT lsn, op, vector_id FROM log ORDER BY lsn").fetchall()
        newest = {vector_id: (lsn, op) for lsn, op, vector_id in log}
        changes = [
            {"lsn": lsn, "op": op, "record": self.record(vector_id)}
            for vector_id, (lsn, op) in sorted(newest.items(), key=lambda item: item[1])]
        base = self.state("base_lsn")
        text = json.dumps(changes, sort_keys=True, separators=(",", ":"))
        payload = {
            "protocol_version": 1,
            "device_id": self.state("device_id"),
            "base_lsn": base,
            "head_lsn": log[-1][0] if log else base,
            "change_count": len(changes),
            "raw_wal_entries": len(log),
            "changes": changes,
            "checksum_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "generated_at": time.time()}
        if option == "lose-push":
            return {"lost": "push"}
        answer = post(url + "/sync", payload)
        assert answer["status"] == "ok" and answer["protocol_version"] == 1, answer
        if option == "lose-answer":
            return {"lost": "answer"}
        self.db.execute("BEGIN IMMEDIATE")
        for record in answer["pull"]:
            self.apply(record)
        self.db.execute("COMMIT")
        if option == "lose-ack":
            return answer
        acked = post(url + "/ack", {
            "device_id": payload["device_id"], "acked_head_lsn": answer["acked_head_lsn"], "acked_server_seq": answer["server_seq"]})
        assert acked["status"] == "ok" and acked["device_id"] == payload["device_id"], acked
        assert acked["last_acked_server_seq"] >= answer["server_seq"], (acked, answer)
        if option == "keep-log":
            return answer
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("DELETE FROM log WHERE lsn <= ?", (answer["acked_head_lsn"],))
        self.db.execute("UPDATE state SET value = max(value, ?) WHERE key = 'base_lsn'", (answer["acked_head_lsn"],))
        self.db.execute("COMMIT")
        return answer

    def apply(self, remote):
        check(remote)
        local = self.record(remote["vector_id"])
        theirs = remote["version_vector"]
        winner, merged = remote, dict(theirs)
        if local is not None:
            mine = local["version_vector"]
            sites = set(mine) | set(theirs)
            ahead = any(mine.get(s, 0) > theirs.get(s, 0) for s in sites)
            behind = any(mine.get(s, 0) < theirs.get(s, 0) for s in sites)
            if not behind:
                return
            merged = {s: max(mine.get(s, 0), theirs.get(s, 0)) for s in sites}
            if ahead:
                rank = lambda r: (r["semantic_weight"], r["updated_at"])
                winner = local if rank(local) > rank(remote) else remote
        self.store(
            remote["vector_id"], winner["embedding"], winner["metadata"], winner["semantic_weight"],
            winner["updated_at"], winner["is_deleted"], merged)

    def dump(self):
        ids = [row[0] for row in self.db.execute("SELECT vector_id FROM version WHERE NOT is_deleted ORDER BY vector_id")]
        return {"rows": [self.record(i) for i in ids], "pending": self.db.execute("SELECT count(*) FROM log").fetchone()[0]}


def check(record):
    """Refuses what the original's model of a record refuses."""
    assert isinstance(record["vector_id"], str)
    assert all(type(x) is float for x in record["embedding"]), record["embedding"]
    assert isinstance(record["metadata"], dict), record["metadata"]
    assert type(record["semantic_weight"]) is float and 0 <= record["semantic_weight"] < float("inf")
    assert type(record["updated_at"]) is float
    assert all(type(n) is int and n > 0 for n in record["version_vector"].values())
    assert record["version_vector"] and isinstance(record["is_deleted"], bool)
    assert record["embedding"] or record["is_deleted"]
    json.dumps(record, allow_nan=False, ensure_ascii=False).encode()


class Refused(Exception):
    """An answer that ends a sync: status is 4 for a 4xx, 5 for a 5xx that stayed one."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


def post(url, payload):
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    wait = 0.01  # seconds; the original begins at 0.5
    for attempt in range(4):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == 3:
                raise Refused(4 if error.code < 500 else 5, "%d %s" % (error.code, error.read().decode()))
        time.sleep(wait)
        wait *= 2


def command(client, name, *args):
    if name == "init":
        return client.init(args[0])
    if name == "put":
        given = dict(enumerate(args))
        return client.write(
            args[0], json.loads(args[1]), json.loads(given.get(4, "{}")), float(given.get(2, "1.0")),
            float(given.get(3, time.time())), False)
    if name == "delete":
        row = client.record(args[0])
        return client.write(args[0], [], {}, row["semantic_weight"], float(args[1]) if len(args) > 1 else time.time(), True)
    if name == "sync":
        return client.sync(args[0], args[1] if len(args) > 1 else "")
    if name == "dump":
        return client.dump()
    raise SystemExit("unknown command " + name)


def serve(client):
    for line in sys.stdin:
        try:
            answer = {"result": command(client, *json.loads(line))}
        except Refused as refused:
            answer = {"status": refused.status, "detail": str(refused)}
        print(json.dumps(answer), flush=True)


def main(path, name, *args):
    client = Client(path)
    if name == "serve":
        return serve(client)
    try:
        result = command(client, name, *args)
    except Refused as refused:
        sys.stderr.write("%s\n" % refused)
        sys.exit(refused.status)
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
