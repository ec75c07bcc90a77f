"""Parse CREATE TABLE statements in a dialect of sqlglot and print what they declare, one JSON object for all.

    parse_sql.py trino|athena|spark < STATEMENTS

Prints {TABLE: {"columns": [[NAME, TYPE, COMMENT]], "partitions": [NAME], "location": TEXT, "format": TEXT,
"properties": {NAME: VALUE}}}, with types as DuckDB calls them. A statement that sqlglot takes for anything but CREATE TABLE ends it with an error.
"""

import json
import sys

import sqlglot
from sqlglot import exp


def column(definition: exp.ColumnDef) -> list[str]:
    kind = definition.kind.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE)
    return [definition.name, kind, definition.find(exp.CommentColumnConstraint).this.this]


def declared(create: exp.Create) -> dict:
    definitions = list(create.this.expressions)
    partitions, properties = [], {}
    location = file_format = None
    for item in create.args["properties"].expressions:
        if isinstance(item, exp.PartitionedByProperty):
            partitions = [part.name for part in item.this.expressions]
            # Hive declares the columns here, the others only name them.
            definitions += [part for part in item.this.expressions if isinstance(part, exp.ColumnDef)]
        elif isinstance(item, exp.LocationProperty):
            location = item.this.this
        elif isinstance(item, exp.FileFormatProperty):
            file_format = item.this.name
        elif type(item) is exp.Property:
            properties[item.this.name] = item.args["value"].name
    return {
        "columns": [column(definition) for definition in definitions],
        "partitions": partitions,
        "location": location or properties.pop("external_location", None),
        "format": file_format,
        "properties": properties,
    }


def main() -> None:
    dialect = sys.argv[1]
    tables = {}
    for create in sqlglot.parse(sys.stdin.read(), dialect=dialect):
        if not isinstance(create, exp.Create) or create.kind != "TABLE":
            sys.exit(f"this is no CREATE TABLE to {dialect}: {create.sql(dialect)[:200]}")
        tables[create.this.this.name] = declared(create)
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
