-- The object carries the id of a customer that is dead, whose copy it was: it is to be told that of this link's customer.
ALTER TABLE links ADD COLUMN relabel boolean NOT NULL DEFAULT false;

-- The second objects of a customer that dies.
CREATE INDEX parked_duplicates ON parked (link_id) WHERE state = 'open' AND kind = 'duplicate';

-- Those of customers that are dead by now are customers of their own: they are routed again.
WITH moot AS (
    UPDATE parked SET state = 'superseded', closed_at = clock_timestamp() FROM links l
    WHERE l.id = parked.link_id AND parked.state = 'open' AND parked.kind = 'duplicate'
      AND l.state = 'deleted' AND l.remote_id IS NOT NULL
      AND EXISTS (SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = l.customer_id::text
                                       AND event_type = 'deleted')
    RETURNING parked.inbox_id
)
UPDATE inbox SET state = 'new', link_id = NULL WHERE id IN (SELECT inbox_id FROM moot);
