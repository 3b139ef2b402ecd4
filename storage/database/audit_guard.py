"""
Triggers that keep the audit trail insert-only, for whoever may write to the table.

A row may be added with a hash. It may be redacted: only `before`, `after`, `salt` and `redacted_by` change, and a later row says
why. It may be deleted, if a row says that everything up to it is. An owner can drop a trigger; the chain shows what follows.
"""

from sqlalchemy import Connection, text

from storage.database.tables import audit

REFUSAL = "the audit trail is insert-only"
REDACTED = {"before", "after", "salt", "redacted_by"}
UNCHANGED = [column.name for column in audit.columns if column.name not in REDACTED]
_SAYS_WHY = "SELECT 1 FROM {audit} AS why WHERE why.audit_id = NEW.redacted_by AND why.audit_id > OLD.audit_id AND why.action IN ('erase', 'prune')"
_SAYS_SO = (
    "SELECT 1 FROM {audit} AS why WHERE CASE WHEN why.action = 'prune' AND why.subject LIKE 'audit %' "
    "THEN CAST(SUBSTR(why.subject, 7) AS BIGINT) ELSE 0 END >= OLD.audit_id"
)


def recreate(connection: Connection, schema: str) -> None:
    """Create the triggers, or replace those of an earlier version."""
    statements = _postgres(connection, schema) if connection.dialect.name == "postgresql" else _sqlite()
    for statement in statements:
        connection.execute(text(statement))


def is_guarded(connection: Connection, schema: str) -> bool:
    """Whether all triggers are in place and in force."""
    if connection.dialect.name == "postgresql":
        found = """
            SELECT COUNT(*) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
            WHERE c.relname = 'audit' AND c.relnamespace = CAST(:schema AS regnamespace)
              AND g.tgname IN ('audit_guard', 'audit_guard_truncate') AND g.tgenabled IN ('O', 'A')"""
        return bool(connection.scalar(text(found), {"schema": f'"{schema}"'}) == 2)
    found = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit' AND name LIKE 'audit_guard_%'"
    return bool(connection.scalar(text(found)) == 3)


def _sqlite() -> list[str]:
    unchanged = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in UNCHANGED)
    conditions = {
        # REPLACE deletes without asking the trigger for DELETE
        "INSERT": "NEW.hash IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit AS old WHERE old.audit_id = NEW.audit_id)",
        "UPDATE": f"{unchanged} AND NEW.salt IS NULL AND EXISTS ({_SAYS_WHY.format(audit='audit')})",
        "DELETE": f"EXISTS ({_SAYS_SO.format(audit='audit')})",
    }
    statements = []
    for event, allowed in conditions.items():
        name = f"audit_guard_{event.lower()}"
        statements += [
            f"DROP TRIGGER IF EXISTS {name}",
            f"CREATE TRIGGER {name} BEFORE {event} ON audit WHEN NOT ({allowed}) "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
        ]
    return statements


def _postgres(connection: Connection, schema: str) -> list[str]:
    # a session may look for tables elsewhere first, even in its temporary ones
    table = f"{connection.dialect.identifier_preparer.quote(schema)}.audit"
    unchanged = " AND ".join(f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in UNCHANGED)
    return [
        f"""CREATE OR REPLACE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                IF NEW.hash IS NOT NULL THEN RETURN NEW; END IF;
            ELSIF TG_OP = 'UPDATE' THEN
                IF {unchanged} AND NEW.salt IS NULL AND EXISTS ({_SAYS_WHY.format(audit=table)}) THEN RETURN NEW; END IF;
            ELSIF TG_OP = 'DELETE' THEN
                IF EXISTS ({_SAYS_SO.format(audit=table)}) THEN RETURN OLD; END IF;
            END IF;
            RAISE EXCEPTION '{REFUSAL}';
        END $$""",
        "DROP TRIGGER IF EXISTS audit_guard ON audit",
        "CREATE TRIGGER audit_guard BEFORE INSERT OR UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_guard()",
        "DROP TRIGGER IF EXISTS audit_guard_truncate ON audit",
        "CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()",
    ]
