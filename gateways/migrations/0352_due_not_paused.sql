-- Links that wait for a resume are passed over by whoever looks for what is due.
CREATE INDEX links_to_do ON links (gateway, not_before) WHERE due_seq > done_seq AND due_seq > paused_seq;
DROP INDEX links_due;

-- What names a link, for when it is made one with another.
CREATE INDEX inbox_link ON inbox (link_id) WHERE link_id IS NOT NULL;
CREATE INDEX intents_link ON intents (link_id);
CREATE INDEX drifts_link ON drifts (link_id) WHERE link_id IS NOT NULL;
