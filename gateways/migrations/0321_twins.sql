-- The emails of the catalog's living customers, in lower case, as far as the feed has told each gateway: by these an object
-- finds the customer whose twin it may be.
CREATE TABLE emails (
    gateway     text NOT NULL,
    customer_id uuid NOT NULL,
    email       text NOT NULL,
    PRIMARY KEY (gateway, customer_id)
);

CREATE INDEX emails_email ON emails (gateway, email);

-- A person said that it has no twin on the other side.
ALTER TABLE links ADD COLUMN apart boolean NOT NULL DEFAULT false;

-- It was parked because it may have one.
ALTER TABLE links ADD COLUMN ambiguous boolean NOT NULL DEFAULT false;

-- An ambiguous one: what it may be the twin of, by the ids of the other side; and both ids where there is one candidate.
ALTER TABLE parked ADD COLUMN candidates text[] NOT NULL DEFAULT '{}', ADD COLUMN customer_id uuid;
ALTER TABLE parked DROP CONSTRAINT parked_kind_check,
    ADD CONSTRAINT parked_kind_check CHECK (kind IN ('rejected', 'duplicate', 'ambiguous'));
ALTER TABLE parked DROP CONSTRAINT parked_state_check,
    ADD CONSTRAINT parked_state_check CHECK (state IN ('open', 'retried', 'dismissed', 'superseded', 'linked'));

CREATE UNIQUE INDEX parked_ambiguous ON parked (link_id) WHERE state = 'open' AND kind = 'ambiguous';
