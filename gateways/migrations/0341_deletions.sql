-- A deletion that a person is asked about: which way it would be carried, and what they said. What was asked stays asked,
-- whatever the settings say by then.
ALTER TABLE links ADD COLUMN asks text CHECK (asks IN ('inbound', 'outbound')),
    ADD COLUMN verdict text CHECK (verdict IN ('delete', 'keep')),
    ADD CONSTRAINT links_verdict_of_something CHECK (verdict IS NULL OR asks IS NOT NULL);

-- The checks are wider than before, so what is there needs no second look (NOT VALID).
-- held: what told of a deletion at the gateway, or came after it, until a person has said what it means here.
ALTER TABLE inbox DROP CONSTRAINT inbox_state_check,
    ADD CONSTRAINT inbox_state_check CHECK (state IN ('new', 'waiting', 'held', 'done', 'parked')) NOT VALID;
CREATE INDEX inbox_held ON inbox (link_id) WHERE state = 'held';

-- Of a deletion: which side deleted, and when.
ALTER TABLE parked ADD COLUMN deleted_side text CHECK (deleted_side IN ('catalog', 'gateway')), ADD COLUMN deleted_at timestamptz;
ALTER TABLE parked DROP CONSTRAINT parked_kind_check,
    ADD CONSTRAINT parked_kind_check CHECK (kind IN ('rejected', 'duplicate', 'ambiguous', 'deletion')) NOT VALID;
ALTER TABLE parked DROP CONSTRAINT parked_state_check,
    ADD CONSTRAINT parked_state_check
        CHECK (state IN ('open', 'retried', 'dismissed', 'superseded', 'linked', 'deleted', 'kept')) NOT VALID;
CREATE UNIQUE INDEX parked_deletion ON parked (link_id) WHERE state = 'open' AND kind = 'deletion';

-- A deletion on one side that a person is asked about.
ALTER TABLE drifts DROP CONSTRAINT drifts_kind_check,
    ADD CONSTRAINT drifts_kind_check CHECK (
        kind IN ('differs', 'missing_there', 'missing_here', 'not_linked', 'dead_on_one_side', 'deletion_waits'));
