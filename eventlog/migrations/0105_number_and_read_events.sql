-- Gives the next committed events their positions, and returns the last one, the epoch, and the events after a position, if they
-- are so few: whoever publishes them need not ask again. No row when nothing waits; one without an event when they are more.
CREATE FUNCTION number_and_read_events(most integer, after bigint, few integer)
RETURNS TABLE (last bigint, epoch uuid, event events)
LANGUAGE plpgsql
-- As for number_events.
SET enable_seqscan TO off
AS $$
BEGIN
    last := number_events(most);
    IF last IS NULL THEN
        RETURN;
    END IF;
    IF last - after > few THEN
        RETURN QUERY SELECT last, feed.epoch, NULL::events FROM feed;
    ELSE
        RETURN QUERY SELECT last, feed.epoch, events FROM feed LEFT JOIN events ON events.position > after
            ORDER BY events.position;
    END IF;
END
$$;
