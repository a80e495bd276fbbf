-- The conflicts, open and past, kept by the projection of the customers, generation by generation.
CREATE TABLE conflict_rows (
    generation  integer     NOT NULL,
    -- The place in the feed of the event that told of it first.
    id          bigint      NOT NULL,
    customer_id uuid        NOT NULL,
    gateway     text        NOT NULL,
    field       text        NOT NULL,
    -- Both sides, as the domain writes them: {"value": …, "edited_at": …}.
    catalog     jsonb       NOT NULL,
    remote      jsonb       NOT NULL,
    -- Whose value stands, by which rule, and since when; none of it while it waits for a person.
    winner      text,
    policy      text        NOT NULL,
    opened_at   timestamptz NOT NULL,
    resolved_at timestamptz,
    -- The version of the customer whose values these are.
    version     bigint      NOT NULL,
    PRIMARY KEY (generation, id),
    CHECK ((winner IS NULL) = (resolved_at IS NULL))
);

CREATE UNIQUE INDEX conflict_rows_open ON conflict_rows (generation, customer_id, gateway, field) WHERE winner IS NULL;
CREATE INDEX conflict_rows_of ON conflict_rows (generation, customer_id, id);

CREATE VIEW conflicts AS
SELECT id, customer_id, gateway, field, catalog, remote, winner, policy, opened_at, resolved_at, version
FROM conflict_rows
WHERE generation = (SELECT generation FROM checkpoints WHERE name = 'customers' AND live);
