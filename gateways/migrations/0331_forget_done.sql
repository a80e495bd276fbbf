-- What is done is forgotten by its age.
CREATE INDEX inbox_done ON inbox (received_at) WHERE state = 'done';
CREATE INDEX intents_closed ON intents (created_at) WHERE state <> 'open';
CREATE INDEX parked_closed ON parked (closed_at) WHERE state <> 'open';
-- An inbox row is forgotten after what was parked for its sake.
CREATE INDEX parked_inbox ON parked (inbox_id) WHERE inbox_id IS NOT NULL;
