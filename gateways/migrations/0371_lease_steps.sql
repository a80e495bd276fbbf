-- Each step of a run counts up. A crash of PostgreSQL that takes a step takes its count, too, and the run, which goes on
-- counting from there, has lost its lease: it knows what nobody else does any more.
ALTER TABLE links ADD COLUMN lease_step bigint NOT NULL DEFAULT 0;
