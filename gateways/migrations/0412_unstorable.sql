-- A change that cannot be stored as its link's: it is parked by itself, with no link.
ALTER TABLE parked ALTER COLUMN link_id DROP NOT NULL;
ALTER TABLE parked DROP CONSTRAINT parked_kind_check,
    ADD CONSTRAINT parked_kind_check
        CHECK (kind IN ('rejected', 'duplicate', 'ambiguous', 'deletion', 'unstorable')) NOT VALID,
    ADD CONSTRAINT parked_link_check CHECK ((link_id IS NULL) = (kind = 'unstorable')) NOT VALID;
