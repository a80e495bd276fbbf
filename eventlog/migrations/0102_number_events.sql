-- Gives the next committed events their positions, and returns the last one; NULL when nothing waits. One call is one
-- round trip and one transaction.
--
-- The feed's row is locked by a statement of its own: the one after it then sees all that the last holder of the lock has
-- committed. In one statement it would look first and wait then, and number events a second time.
CREATE FUNCTION number_events(most integer) RETURNS bigint
LANGUAGE plpgsql
-- The plan is made while the table is small, and must serve when it is not.
SET enable_seqscan TO off
AS $$
DECLARE
    last  bigint;
    count bigint;
BEGIN
    -- Looking takes no lock and writes nothing.
    IF NOT EXISTS (SELECT FROM events WHERE position IS NULL) THEN
        RETURN NULL;
    END IF;
    SELECT last_position INTO last FROM feed FOR UPDATE;
    WITH next AS (
        SELECT aggregate_type, aggregate_id, sequence, row_number() OVER (ORDER BY ordinal) AS place
        FROM (SELECT aggregate_type, aggregate_id, sequence, ordinal FROM events
              WHERE position IS NULL ORDER BY ordinal LIMIT most) AS waiting
    )
    UPDATE events SET position = last + next.place FROM next
    WHERE (events.aggregate_type, events.aggregate_id, events.sequence)
        = (next.aggregate_type, next.aggregate_id, next.sequence);
    GET DIAGNOSTICS count = ROW_COUNT;
    IF count = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE feed SET last_position = last + count;
    RETURN last + count;
END
$$;
