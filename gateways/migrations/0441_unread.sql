-- The version of Tandem that could not read what is stored of a link: another version tries again.
ALTER TABLE parked ADD COLUMN unread_by text;
CREATE INDEX parked_unread ON parked (id) WHERE state = 'open' AND unread_by IS NOT NULL;
