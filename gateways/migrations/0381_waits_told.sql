-- A field that differs until a person decides a conflict.
ALTER TABLE drifts DROP CONSTRAINT drifts_kind_check,
    ADD CONSTRAINT drifts_kind_check CHECK (
        kind IN ('differs', 'missing_there', 'missing_here', 'not_linked', 'dead_on_one_side', 'deletion_waits',
                 'conflict_waits'));

-- Objects by the email that they were told to have.
CREATE INDEX inbox_email ON inbox (gateway, lower(btrim(change #>> '{profile,email}'))) WHERE link_id IS NOT NULL;
