"""Labels as rows beside the JSON of their objects, so that a filter on a label is a search in an index.

Triggers keep the two agreed, whoever writes the object: there is no code to forget. The rows' key
begins with what a filter names (namespace, type of object, label, value) and ends with the object, so
the table is its own only index. Image annotations are rows of type `annotation`.
"""

from __future__ import annotations

_COLUMNS = 'namespace, type, name, value, "key"'
_ROWS = (
    "SELECT {row}.namespace, {type}, label.key, label.value, {row}.{key}"
    " FROM {source}json_each({row}.{column}) AS label"
)
_INSERT = f"INSERT INTO labels ({_COLUMNS}) {_ROWS}"
_DELETE = f"DELETE FROM labels WHERE ({_COLUMNS}) IN ({_ROWS})"  # noqa: S608  # of constants
_TRIGGER = "CREATE TRIGGER {table}_{column}_"


def triggers(table: str, node_type: str, key: str, column: str = "labels") -> tuple[str, ...]:
    """The statements that have the labels in `column` of a table kept as rows, also those that it has.

    `node_type` is SQL for the type of a row's object, where `{row}` stands for the row; `key` is the
    column of its key. For migrations: a table that one makes anew needs them again.
    """

    def filled(template: str, row: str, source: str = "") -> str:
        return template.format(
            row=row, type=node_type.format(row=row), key=key, column=column, table=table, source=source
        )

    name = filled(_TRIGGER, "")
    add, drop = filled(_INSERT, "NEW"), filled(_DELETE, "OLD")
    changed = f"OLD.{column} <> NEW.{column} OR OLD.{key} <> NEW.{key}"
    return (
        filled(_INSERT, table, f"{table}, "),
        f"{name}insert AFTER INSERT ON {table} WHEN NEW.{column} <> '{{}}' BEGIN {add}; END",
        f"{name}delete AFTER DELETE ON {table} WHEN OLD.{column} <> '{{}}' BEGIN {drop}; END",
        f"{name}update AFTER UPDATE OF {column}, {key} ON {table} WHEN {changed} BEGIN {drop}; {add}; END",
    )
