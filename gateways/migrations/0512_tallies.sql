-- How many customers' field changed, slot by slot of the guard's window: each counts once, in the slot of its last change. What was
-- counted before this has no slot, and counts no more.
ALTER TABLE guarded ADD COLUMN slot timestamptz;
CREATE TABLE guard_tallies (
    gateway   text        NOT NULL,
    direction text        NOT NULL,
    what      text        NOT NULL,
    slot      timestamptz NOT NULL,
    customers bigint      NOT NULL,
    PRIMARY KEY (gateway, direction, what, slot)
);

-- How many customers are linked, where they are too many to be counted each time.
CREATE TABLE linked (
    gateway    text        PRIMARY KEY,
    links      bigint      NOT NULL,
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The first links of a gateway that are due, as many as are asked for. By the index that orders them: the planner takes them for so few
-- that it would rather read and sort all of them.
CREATE FUNCTION first_due(of_gateway text, in_bulk boolean, most bigint) RETURNS TABLE (due bigint, since timestamptz)
LANGUAGE sql STABLE
SET enable_bitmapscan TO off
SET enable_seqscan TO off
AS $$
    SELECT count(*), min(due_since)
    FROM (SELECT due_since FROM links WHERE gateway = of_gateway AND bulk = in_bulk AND due_seq > done_seq AND due_seq > paused_seq
          ORDER BY not_before LIMIT most) AS first
$$;
