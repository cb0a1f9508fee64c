#!/usr/bin/env bash
# An application in another language writes to its file with its own SQLite, here the
# sqlite3 shell; velosync sync, beside it, ships what it wrote.
#
#   masterd --insecure &
#   examples/sidecar/sidecar.sh http://127.0.0.1:8440
#
# Wants sqlite3 and velosync in PATH.
set -euo pipefail
master=${1:?usage: sidecar.sh URL-of-masterd [space]}
space=${2:-sidecar}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Once: the application makes its table, velosync tracks it.
sqlite3 "$dir/till.db" "CREATE TABLE sales(id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(16)))), item TEXT, cents INT)"
velosync track "$dir/till.db" sales

# From then on it writes as ever: triggers of built-in functions log each mutation.
sqlite3 "$dir/till.db" "INSERT INTO sales(id, item, cents) VALUES ('s1', 'tea', 250), ('s2', 'cake', 400); UPDATE sales SET cents = 300 WHERE id = 's1'"

# The sidecar ships, once here; --watch stays. Another device starts from nothing.
velosync sync "$dir/till.db" --master "$master" --space "$space" --once
velosync sync "$dir/office.db" --master "$master" --space "$space" --once
sqlite3 "$dir/office.db" "SELECT item, cents FROM sales ORDER BY item"
