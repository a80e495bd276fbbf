-- Of a second object only what was told last waits for a person. What was told before was kept, and named by nothing.
UPDATE inbox SET state = 'done' WHERE state = 'parked'
    AND NOT EXISTS (SELECT FROM parked WHERE inbox_id = inbox.id AND parked.state = 'open');
