"""Parse CREATE TABLE and CREATE VIEW statements in a dialect of sqlglot and print what they declare, one JSON object for all.

    parse_sql.py trino|athena|spark < STATEMENTS

Prints {TABLE: {"columns": [[NAME, TYPE, COMMENT]], "partitions": [NAME], "location": TEXT, "format": TEXT,
"properties": {NAME: VALUE}}}, with types as DuckDB calls them; for views {VIEW: {"columns": [NAME], "from": [TABLE]}}. A
statement that sqlglot takes for anything else ends it with an error.
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


def seen(create: exp.Create) -> dict:
    query = create.expression
    return {"columns": query.named_selects, "from": [table.name for table in query.find_all(exp.Table)]}


def main() -> None:
    dialect = sys.argv[1]
    found = {}
    for create in sqlglot.parse(sys.stdin.read(), dialect=dialect):
        if isinstance(create, exp.Create) and create.kind == "TABLE":
            found[create.this.this.name] = declared(create)
        elif isinstance(create, exp.Create) and create.kind == "VIEW":
            found[create.this.name] = seen(create)
        else:
            sys.exit(f"this creates nothing to {dialect}: {create.sql(dialect)[:200]}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
