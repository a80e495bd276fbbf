-- Whether nobody in particular waits for what a link is due for: a first run, a repair, a resume. What somebody waits for goes first.
ALTER TABLE links ADD COLUMN bulk boolean NOT NULL DEFAULT false;
DROP INDEX links_to_do;
CREATE INDEX links_to_do ON links (gateway, bulk, not_before, id) WHERE due_seq > done_seq AND due_seq > paused_seq;

-- The same of what was told: it is routed behind the rest.
ALTER TABLE inbox ADD COLUMN bulk boolean NOT NULL DEFAULT false;
DROP INDEX inbox_new;
CREATE INDEX inbox_new ON inbox (gateway, bulk, id) WHERE state = 'new';
