-- When a link met a paused direction: whoever met it before the last resume goes on, some at a time.
ALTER TABLE links ADD COLUMN paused_at timestamptz;
UPDATE links SET paused_at = clock_timestamp() WHERE paused_seq >= 0;
DROP INDEX links_paused;
CREATE INDEX links_paused ON links (gateway, paused_at) WHERE paused_seq >= 0;

-- What is counted, or forgotten, at an interval is found by an index.
CREATE INDEX parked_open ON parked (gateway) WHERE state = 'open';
CREATE INDEX guarded_at ON guarded (gateway, at);

-- How much is due where it is too much to be counted each time it is asked for: one process counts it, some links at a time.
CREATE TABLE backlogs (
    gateway    text        NOT NULL,
    bulk       boolean     NOT NULL,
    due        bigint      NOT NULL,
    -- Since when the longest waiting of them waits.
    due_since  timestamptz,
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gateway, bulk)
);

-- How many differed, counted once: at the end.
ALTER TABLE surveys ADD COLUMN drift bigint;
