-- A direction of a gateway that stands still until somebody resumes it: `inbound` from the gateway to the catalog, `outbound` the
-- other way.
CREATE TABLE pauses (
    gateway   text        NOT NULL,
    direction text        NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    reason    text        NOT NULL,
    -- person, or guard: too much changed at once.
    paused_by text        NOT NULL CHECK (paused_by IN ('person', 'guard')),
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gateway, direction)
);

-- From when on the guard counts: what a person let pass is not counted again.
CREATE TABLE guards (
    gateway      text        NOT NULL,
    direction    text        NOT NULL,
    counted_from timestamptz NOT NULL,
    PRIMARY KEY (gateway, direction)
);

-- Whose field changed, or who was deleted (`deleted`), and when: each customer counts once.
CREATE TABLE guarded (
    gateway     text        NOT NULL,
    direction   text        NOT NULL,
    what        text        NOT NULL,
    customer_id uuid        NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gateway, direction, what, customer_id)
);
CREATE INDEX guarded_recent ON guarded (gateway, direction, what, at);

-- What a link was due for when it met a paused direction. Whatever comes later makes it due anew, for the other direction.
ALTER TABLE links ADD COLUMN paused_seq bigint NOT NULL DEFAULT -1;
CREATE INDEX links_paused ON links (gateway) WHERE paused_seq >= 0;
