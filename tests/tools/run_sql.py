"""Runs SQL in DuckDB: reads {"statements": TEXT, "queries": [TEXT]}, writes the rows of each query as JSON."""

import json
import sys

import duckdb

asked = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute(asked["statements"])
json.dump([connection.execute(query).fetchall() for query in asked["queries"]], sys.stdout, default=str)
