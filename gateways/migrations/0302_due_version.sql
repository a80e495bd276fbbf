-- Up to which version of the customer the link was marked due, so that an event marks it once, whoever tells of it first.
ALTER TABLE links ADD COLUMN due_version bigint NOT NULL DEFAULT 0 CHECK (due_version >= 0);
