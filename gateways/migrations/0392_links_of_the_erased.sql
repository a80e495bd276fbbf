-- Those that were erased before.
UPDATE links SET erased = true FROM events
WHERE events.aggregate_type = 'customer' AND events.aggregate_id = links.customer_id::text AND events.event_type = 'erased';
