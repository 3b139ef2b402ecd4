"""Computing anew what is derived from other tables, where it is not what they say."""

from storage.database.cases import CaseCheck, check_cases, rebuild_cases
from storage.database.database import Store
from storage.review.audit_trail import write_audit


def repair_cases(store: Store, by: str, now: int) -> CaseCheck:
    """Compute all cases of the queue from scratch if one is not that of its flags; returns what was wrong. Other writes wait meanwhile."""
    with store.write() as connection:
        found = check_cases(connection, store.fields.case_entity)
        if found.wrong or found.wrong_counts:
            rebuild_cases(connection, store.fields.case_entity)
            write_audit(connection, by, "repair", "cases", found._asdict(), None, now)
    return found
