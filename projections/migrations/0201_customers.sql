-- The customers as they are. A rebuild fills another generation beside the one that is read.
CREATE TABLE customer_rows (
    generation integer     NOT NULL,
    id         uuid        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('active', 'deleted')),
    -- The set fields, as the domain writes them: {"email": "…", "metadata.plan": "pro"}.
    profile    jsonb       NOT NULL,
    -- Lower case by Unicode's rules, made by the projection: lower() knows only what the database's locale knows.
    name_key   text        NOT NULL COLLATE "C",
    email_key  text        COLLATE "C",
    -- The number of the event that changed the fields last, and of the last event of any kind.
    version    bigint      NOT NULL,
    seen       bigint      NOT NULL,
    -- The last event's place in the feed.
    position   bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (generation, id)
);

CREATE INDEX customer_rows_created ON customer_rows (generation, created_at, id) WHERE state = 'active';
CREATE INDEX customer_rows_name ON customer_rows (generation, name_key, id) WHERE state = 'active';
CREATE INDEX customer_rows_email ON customer_rows (generation, email_key) WHERE state = 'active';

-- What everybody reads: the live generation. A rebuild's swap is one row of `checkpoints`.
CREATE VIEW customers AS
SELECT id, state, profile ->> 'name' AS name, profile ->> 'email' AS email, profile ->> 'phone' AS phone,
       profile -> 'address' AS address, profile, name_key, email_key, version, seen, position, created_at, updated_at
FROM customer_rows
WHERE generation = (SELECT generation FROM checkpoints WHERE name = 'customers' AND live);

-- Searching within names and emails needs trigrams to be fast. Where a bare PostgreSQL lacks them, it scans.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX customer_rows_search ON customer_rows USING gin (name_key gin_trgm_ops, email_key gin_trgm_ops)
        WHERE state = 'active';
EXCEPTION
    WHEN undefined_file OR feature_not_supported OR insufficient_privilege THEN
        RAISE NOTICE 'pg_trgm is not available: searching customers by a part of their name or email reads all of them';
END
$$;
